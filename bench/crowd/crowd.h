/* What Python sees of drain.c and limit.c: cffi reads everything between the two marks. */
#ifndef BENCH_CROWD_H
#define BENCH_CROWD_H

#include <stddef.h>
#include <stdint.h>

/* -- begin */
#define READ_KEPT 1024          /* transport-wide numbers whose reading is remembered */

/* One SSRC of a viewer, as a receiver keeps it (RFC 3550 appendix A). */
struct flow {
    uint32_t ssrc;              /* of the first packet with its payload type */
    uint32_t first;             /* extended sequence number of that packet */
    uint32_t highest;           /* ... of what was kept */
    uint32_t reached;           /* ... of what came, thrown away or not */
    uint32_t jitter;            /* 16 times, in ticks of its clock: of a picture's last packets */
    uint32_t transit;
    uint64_t came;              /* packets, each number once */
    uint64_t kept;              /* ... but for those thrown away; one that came again counts again */
    uint64_t thrown;
    uint8_t type;               /* payload type */
    uint8_t started;
    uint8_t timed;              /* transit is known */
    uint8_t numbers[8192];      /* a bit for each sequence number up to ``reached``: it came */
};

/* One viewer: a UDP socket that is drained, and what came. */
struct seat {
    int32_t fd;
    uint8_t aligned;            /* offset is known: its frames can be told from one another */
    uint32_t offset;            /* of its video's RTP timestamps to the rendition's line */
    uint64_t resent;            /* retransmissions: under an SSRC or a number of before */
    uint64_t returned;          /* handed back to Python: STUN, DTLS, RTCP */
    uint64_t numbered;          /* extended transport-wide number of the newest packet; 0: none */
    uint32_t read_at[READ_KEPT]; /* when each of the last ones was read, by its number: ticks of
                                  * 250 us since the room began; 0: it did not come */
    struct flow video;
    struct flow sound;
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
 * each datagram behind the 32-bit number of its seat; and behind it and a byte ASK the numbers, 16
 * bits each, of packets that are missing of its video. Of that one packet in ``thrown`` is thrown
 * away as if it had been lost; 0: none. NULL: no memory, no epoll. */
struct room *room_new(uint32_t seats, int back, uint32_t thrown);
struct seat *room_seat(struct room *room, uint32_t index);
/* Drain this seat's socket from now on; 0 or errno. May be called while room_drain runs.
 * ``sound``: 255 where there is none. */
int room_open(struct room *room, uint32_t index, int fd, uint8_t video, uint8_t sound);
/* How many of ``count`` packets from that sequence number on have come to a flow. */
uint32_t room_came(const struct flow *flow, uint16_t first, uint32_t count);
/* Drain until room_stop; returns 0 or errno. */
int room_drain(struct room *room);
void room_stop(struct room *room);
void room_free(struct room *room);
/* The arrivals of the frame of that time on the line (multiple of ``FRAME_TICKS``). */
const struct arrival *room_arrival(struct room *room, uint32_t timestamp);

typedef int (*protect_t)(void *context, void *packet, int *length);

struct outgoing {
    uint32_t ssrc;              /* 0: it is not sent */
    uint32_t offset;
    uint16_t sequence;          /* of the next packet */
    uint8_t payload_type;
};

/* One viewer that the limit sends to. */
struct target {
    void *srtp;
    uint8_t address[4];
    uint16_t port;
    uint8_t numbers_id;         /* of the header extension of transport-wide numbers; 0: none */
    uint16_t number;            /* of the next packet */
    struct outgoing video;
    struct outgoing sound;
};

/* A picture, or a packet of sound. */
struct unit {
    const uint8_t **payloads;
    const uint16_t *lengths;
    uint32_t packets;
    uint32_t timestamp;
    double at;                  /* seconds after the beginning */
    uint8_t is_sound;
};

struct limit_counts {
    uint64_t sent;
    uint64_t unsent;
    uint64_t drained;           /* datagrams of viewers, dropped unread */
};

/* Send each unit to all targets when its time has come, from ``begin`` seconds of CLOCK_MONOTONIC
 * on, and go on until ``end``. 0, -1 when SRTP failed, or errno. */
int limit_run(int fd, protect_t protect, struct target *targets, uint32_t count,
              const struct unit *units, uint32_t number, double begin, double end,
              uint32_t batch, struct limit_counts *counts);
/* -- end */

#define NUMBERS_ID 4            /* of the header extension: bench/numbers.py */
#define ASK 255                 /* no first byte of a datagram of WebRTC */
#define FRAME_TICKS 3000        /* of 90 kHz: 30 frames a second */

#endif
