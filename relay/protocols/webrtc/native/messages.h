/* Messages of many tracks, gathered and sent through one socket. Each .c that includes this defines
 * _GNU_SOURCE first. */
#ifndef RELAY_MESSAGES_H
#define RELAY_MESSAGES_H

#include "fanout.h"

#include <netinet/in.h>
#include <sys/socket.h>

#define MESSAGES 128           /* of one sendmmsg */
#define ARENA (1 << 20)        /* bytes of them all */
#define SEGMENTS 64            /* of one message: UDP_MAX_SEGMENTS of Linux before 6.9 */
#define MESSAGE 65000          /* bytes of one message */
#define TRAILER 160            /* what libsrtp may want behind a packet: SRTP_MAX_TRAILER_LEN */

struct message {
    uint8_t *start;
    size_t length;
    unsigned segments;
    uint16_t segment;          /* bytes of each, but for the last */
    const struct fan_track *track;
};

struct fan_out {
    fan_protect protect;
    fan_protect protect_rtcp;
    int fd;
    int no_segments;           /* this kernel or device cannot cut messages */
    unsigned count;
    size_t used;
    struct message messages[MESSAGES];
    struct mmsghdr headers[MESSAGES];
    struct iovec vectors[MESSAGES];
    union {
        char bytes[CMSG_SPACE(sizeof(uint16_t)) + CMSG_SPACE(sizeof(struct in6_pktinfo))];
        struct cmsghdr align;
    } controls[MESSAGES];
    uint8_t arena[ARENA];
};

#pragma GCC visibility push(hidden)

/*
 * Send what is gathered. A full socket drops the rest: it is asked for again, and a frame
 * that comes late is worth less than the next one in time. An address that cannot be
 * reached drops its own message only.
 */
void fan_flush(struct fan_out *out, struct fan_counts *counts);

/* One datagram by itself, which was written where the next is to begin. */
void fan_put(struct fan_out *out, const struct fan_track *track, uint8_t *start, size_t length);

#pragma GCC visibility pop

#endif
