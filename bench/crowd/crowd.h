/* What Python sees of drain.c and limit.c: cffi reads everything between the two marks. */
#ifndef BENCH_CROWD_H
#define BENCH_CROWD_H

#include <stddef.h>
#include <stdint.h>

/* -- begin */
/* One viewer: a UDP socket that is drained, and what came. */
struct seat {
    int32_t fd;
    uint8_t payload_type;       /* of its video */
    uint8_t sound_type;         /* of its sound, or 255 */
    uint8_t aligned;            /* offset is known: its frames can be told from one another */
    uint8_t started;
    uint32_t ssrc;              /* of the first packet with that payload type */
    uint32_t offset;            /* of its RTP timestamps to the rendition's line */
    uint32_t highest;           /* extended sequence number */
    uint64_t received;          /* packets of its video, without retransmissions */
    uint64_t sounds;            /* packets of its sound */
    uint64_t resent;            /* other RTP: retransmissions */
    uint64_t numbered;          /* extended transport-wide number of the newest packet; 0: none */
    int64_t numbered_at;        /* its arrival, ns since the epoch */
    uint64_t returned;          /* handed back to Python: STUN, DTLS, RTCP */
};

/* One frame: when its last packet reached the first and the last viewer, ns since the epoch. */
struct arrival {
    uint32_t timestamp;
    uint32_t viewers;
    int64_t first;
    int64_t last;
};

struct room;

/* Up to ``seats`` viewers; ``back`` is a SOCK_SEQPACKET socket that takes what is not media,
 * each datagram behind the 32-bit number of its seat. NULL: no memory, no epoll. */
struct room *room_new(uint32_t seats, int back);
struct seat *room_seat(struct room *room, uint32_t index);
/* Drain this seat's socket from now on; 0 or errno. May be called while room_drain runs. */
int room_open(struct room *room, uint32_t index, int fd, uint8_t payload_type);
/* Drain until room_stop; returns 0 or errno. */
int room_drain(struct room *room);
void room_stop(struct room *room);
void room_free(struct room *room);
/* The arrivals of the frame of that time on the line (multiple of ``FRAME_TICKS``). */
const struct arrival *room_arrival(struct room *room, uint32_t timestamp);

typedef int (*protect_t)(void *context, void *packet, int *length);

/* One viewer that the limit sends to. */
struct target {
    void *srtp;
    uint8_t address[4];
    uint16_t port;
    uint16_t sequence;          /* of the next packet */
    uint32_t ssrc;
    uint32_t offset;
    uint8_t payload_type;
    uint8_t numbers_id;         /* of the header extension of transport-wide numbers; 0: none */
    uint16_t number;            /* of the next packet */
};

struct picture {
    const uint8_t **payloads;
    const uint16_t *lengths;
    uint32_t packets;
    uint32_t timestamp;
};

struct limit_counts {
    uint64_t sent;
    uint64_t unsent;
    uint64_t drained;           /* datagrams of viewers, dropped unread */
};

/* Send each picture to all targets when its time has come: picture 0 at ``begin`` seconds of
 * CLOCK_MONOTONIC, the next ones ``interval`` later each. 0, -1 when SRTP failed, or errno. */
int limit_run(int fd, protect_t protect, struct target *targets, uint32_t count,
              const struct picture *pictures, uint32_t number, double begin, double interval,
              uint32_t batch, struct limit_counts *counts);
/* -- end */

#define NUMBERS_ID 4            /* of the header extension: bench/numbers.py */
#define FRAME_TICKS 3000        /* of 90 kHz: 30 frames a second */

#endif
