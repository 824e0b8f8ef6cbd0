/* What Python sees of fanout.c: cffi reads everything between the two marks. */
#ifndef RELAY_FANOUT_H
#define RELAY_FANOUT_H

#include <stddef.h>
#include <stdint.h>

#define FAN_MAX_PAYLOAD 1300
#define FAN_REMEMBERED 1024
#define FAN_HISTORY 512         /* packets; as sent.py has it */
#define FAN_RANDOM 14           /* bytes of a check that nobody can guess */
#define FAN_OVERHEAD 62         /* bytes of a packet beside its payload, for rates */

/* -- begin */
typedef int (*fan_protect)(void *context, void *packet, int *length);

struct fan_sent {
    double at;                  /* CLOCK_MONOTONIC, seconds */
    uint64_t octets;            /* so far, with that packet */
};

/* Transport-wide numbers of a connection, and when each packet left. */
struct fan_log {
    uint64_t next;              /* packets so far; the number is the low 16 bits */
    uint64_t octets;            /* so far */
    struct fan_sent sent[1024]; /* of number % FAN_REMEMBERED */
};

/* What a frame needs of a track stands first. */
struct fan_track {
    void *srtp;                 /* srtp_t; NULL: nothing is sent */
    struct fan_log *log;        /* NULL: packets carry no transport-wide number. Else the
                                 * extension begins with its element, two bytes long. */
    uint64_t packets;           /* sent, as the sender report counts them */
    uint64_t octets;
    uint64_t extension_packets; /* the first packets carry the extension */
    uint32_t ssrc;
    uint32_t offset;            /* of this track's timestamps to the rendition's */
    uint32_t timestamp;         /* of the last frame, on the rendition's line */
    int32_t status;             /* of libsrtp, for the last frame; 0: good */
    uint16_t sequence;          /* of the next packet */
    uint8_t payload_type;
    uint8_t rtx_payload_type;
    uint32_t extension_length;  /* multiple of four, 0: none */
    uint8_t extension[24];
    uint8_t address[28];        /* struct sockaddr_in or sockaddr_in6 */
    uint32_t address_length;
    uint32_t ours_length;       /* 4, 16, or 0: the kernel chooses which of our addresses */
    uint8_t ours[16];           /* that what is sent leaves from */
    uint32_t clock_rate;
    uint32_t name_length;       /* 0: reports carry no name */
    uint8_t name[32];           /* CNAME */
    void *consent;              /* struct rx_consent, of one track of each viewer that is heard
                                 * natively; else NULL */
    struct fan_history *history; /* of what it is sent along with others; NULL: it is not */
    uint64_t since;             /* packets of that when it was first sent them */
    uint64_t resent;            /* packets that were sent again */
    uint32_t rtx_ssrc;          /* 0: they are sent again as they were (RFC 4588 is not used) */
    uint16_t rtx_sequence;      /* of the last one */
};

struct fan_counts {
    uint64_t sent;              /* datagrams */
    uint64_t unsent;            /* dropped: the socket was full, or nobody can be reached there */
};

struct fan_out;
struct fan_history;

struct fan_out *fan_new(int fd, fan_protect protect, fan_protect protect_rtcp);
void fan_free(struct fan_out *out);
size_t fan_track_size(void);

/* An empty log, NULL: no memory. Logs of many viewers lie together, in pages that are large. */
struct fan_log *fan_log_new(void);
void fan_log_free(struct fan_log *log);

/* What is sent along to many, as far as it can be sent again natively: the last FAN_HISTORY packets.
 * What is sent again leaves by ``out``, and is counted. NULL: no memory. */
struct fan_history *fan_history_new(struct fan_out *out, struct fan_counts *counts);
void fan_history_free(struct fan_history *history);
/* From now on the track is sent all that goes into it; NULL: nothing that does. */
void fan_follow(struct fan_track *track, struct fan_history *history);
/* Send the packets with these numbers once more. 0, or -1: one of them is not kept there, and none
 * was sent; or SRTP failed. */
int fan_again(struct fan_track *track, const uint16_t *sequences, size_t count);

/* One frame to all tracks; returns on how many SRTP failed, each with its status set.
 *
 * payloads: one behind the other; ``lengths``, uint16_t, of each. ``marker``: set it on the last
 * packet. ``history``: where it is kept, NULL: nowhere. */
size_t fan_payloads(struct fan_out *out, struct fan_track *const *tracks, size_t count,
                    const uint8_t *payloads, const void *lengths, size_t packets,
                    uint32_t timestamp, int32_t marker, struct fan_history *history,
                    struct fan_counts *counts);

/* A sender report of each track that has sent, its name behind it; tracks in a row with the
 * same keys share a datagram. ``line``: seconds that the rendition's line shows at ``ntp``.
 * Returns on how many SRTCP failed. */
size_t fan_report(struct fan_out *out, struct fan_track *const *tracks, size_t count,
                  uint64_t ntp, double line, struct fan_counts *counts);

/* Send the checks of ours that are due to the viewers of these tracks. ``random``: FAN_RANDOM
 * bytes for each track. Returns how many viewers have left the last one unanswered, so that Python
 * is to ask them; their places are in ``late``, which has room for ``count``. */
size_t fan_ask(struct fan_out *out, struct fan_track *const *tracks, size_t count,
               const uint8_t *random, double now, uint32_t *late, struct fan_counts *counts);
/* -- end */

#endif
