/* What Python sees of opening.c: cffi reads everything between the two marks. */
#ifndef BENCH_OPENING_H
#define BENCH_OPENING_H

#include <stdint.h>

/* -- begin */
typedef int (*unprotect_t)(void *context, void *packet, int *length);

struct source {
    void *srtp;
    uint16_t port;              /* on the loopback address */
};

struct opening_counts {
    uint64_t opened;            /* RTP */
    uint64_t refused;
    uint64_t other;             /* dropped unread: STUN, DTLS, RTCP */
};

/* Read and open for ``seconds``; 0 or errno. */
int opening_run(int fd, unprotect_t unprotect, const struct source *sources, uint32_t count,
                double seconds, struct opening_counts *counts);
/* -- end */

#endif
