/*
 * SRTP opening alone: datagrams read in batches from the socket and opened with the keys of
 * their source. Nothing is made of them.
 */

#define _GNU_SOURCE
#include "opening.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#define BATCH 64
#define DATAGRAM 2048

struct opening {
    void *keys[65536];          /* by port */
    struct mmsghdr headers[BATCH];
    struct iovec vectors[BATCH];
    struct sockaddr_in addresses[BATCH];
    _Alignas(16) uint8_t datagrams[BATCH][DATAGRAM];
};

static double clock_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void open_one(struct opening *in, unprotect_t unprotect, int at,
                     struct opening_counts *counts)
{
    uint8_t *data = in->datagrams[at];
    int length = (int)in->headers[at].msg_len;
    void *keys = in->keys[ntohs(in->addresses[at].sin_port)];

    if (keys == NULL || length < 12 || data[0] < 128 || data[0] > 191 ||
        (data[1] >= 192 && data[1] <= 223))
        counts->other++;
    else if (unprotect(keys, data, &length) == 0)
        counts->opened++;
    else
        counts->refused++;
}

int opening_run(int fd, unprotect_t unprotect, const struct source *sources, uint32_t count,
                double seconds, struct opening_counts *counts)
{
    struct opening *in = calloc(1, sizeof *in);
    double end = clock_now() + seconds, left;
    int failed = 0;

    if (in == NULL)
        return ENOMEM;
    for (uint32_t at = 0; at < count; at++)
        in->keys[sources[at].port] = sources[at].srtp;
    for (int at = 0; at < BATCH; at++) {
        in->vectors[at].iov_base = in->datagrams[at];
        in->vectors[at].iov_len = DATAGRAM;
        in->headers[at].msg_hdr.msg_iov = &in->vectors[at];
        in->headers[at].msg_hdr.msg_iovlen = 1;
        in->headers[at].msg_hdr.msg_name = &in->addresses[at];
        in->headers[at].msg_hdr.msg_namelen = sizeof in->addresses[at];
    }
    while ((left = end - clock_now()) > 0) {
        struct pollfd wanted = {fd, POLLIN, 0};
        int number = poll(&wanted, 1, (int)(left * 1e3) + 1);

        if (number < 0 && errno != EINTR) {
            failed = errno;
            break;
        }
        if (number <= 0)
            continue;
        number = recvmmsg(fd, in->headers, BATCH, MSG_DONTWAIT, NULL);
        for (int at = 0; at < number; at++)
            open_one(in, unprotect, at, counts);
    }
    free(in);
    return failed;
}
