/*
 * What the parts of receiving share: one socket, the batch that was read from it, and what is
 * known of those who write to it. Each .c that includes this defines _GNU_SOURCE first.
 */
#ifndef RELAY_RECEIVER_H
#define RELAY_RECEIVER_H

#include "receive.h"

#include <netinet/in.h>
#include <sys/socket.h>

#define BATCH 64
#define DATAGRAM 2048
#define ROUTES 16384           /* slots; a power of two */
#define FAMILIAR 65536         /* likewise */
#define OURS 16                /* bytes of an address of ours */
#define NAMED (sizeof(struct sockaddr_in6) + OURS)
#define WRAPPING (NAMED + 4)   /* bytes before a datagram that is handed on: its name, and how
                                  long that is */

enum { STREAM, VIEWER, FAR };  /* kinds of a route */

struct rx {
    int fd;
    int out;                    /* answers leave by it */
    int wrapped;
    int epoll;                  /* -1: nobody waits by it */
    int timer;
    uint8_t resting;            /* only the timer wakes now */
    uint8_t quiet;              /* of this batch at most what viewers said went to Python */
    uint32_t streams;           /* publishers, whose packets wait for nothing */
    double before;              /* when the batch before this one was read */
    uint32_t batch;             /* number of this one */
    uint32_t begun;             /* pictures that this batch went on with and did not end */
    struct rx_doors doors;
    struct rx_counts counts;
    uint64_t seed;
    struct rx_limits limits;
    uint32_t more;              /* batches that may yet be read in this turn */
    double read_at;             /* when the last turn ended */
    uint32_t routes;
    uint32_t at;
    uint32_t count;
    uint32_t used;              /* headers that the last batch has changed, the first always */
    uint8_t guarded;            /* what is for nobody that Python has told of is dropped */
    double strays;              /* tokens of media of strangers */
    double strays_at;
    double now;
    uint8_t *unit;
    size_t unit_room;
    struct rx_route *table[ROUTES];
    uint16_t familiar[FAMILIAR]; /* how many that Python knows have that hash, see strangers.c */
    struct mmsghdr headers[BATCH];
    struct iovec vectors[BATCH][2];
    size_t told;                /* bytes of ``controls``; 0: the socket does not tell to which
                                   of our addresses a datagram came */
    union {
        char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo))];
        struct cmsghdr align;
    } controls[BATCH];
    uint8_t sound[DATAGRAM];    /* a unit of it */
    _Alignas(8) uint8_t names[BATCH][WRAPPING];
    _Alignas(16) uint8_t datagrams[BATCH][DATAGRAM];
};

#endif
