/*
 * Datagrams between processes: each is handed on with its name before it, and the process that
 * serves its viewer takes both apart again.
 */

#define _GNU_SOURCE
#include "far.h"

#include "names.h"
#include "routes.h"

#include <stdlib.h>
#include <string.h>

#define FULL 600 /* of a picture a packet that others follow is larger, one of sound is not */

int unwrap(struct rx *rx, int count)
{
    for (int at = 0; at < count; at++) {
        struct mmsghdr *header = &rx->headers[at];

        if (header->msg_len < WRAPPING || rx->names[at][NAMED] > NAMED)
            return at;
        header->msg_len -= WRAPPING;
        header->msg_hdr.msg_namelen = rx->names[at][NAMED];
    }
    return count;
}

void rx_unwrap(struct rx *rx, int out)
{
    rx->out = out;
    rx->wrapped = 1;
    for (int at = 0; at < BATCH; at++) {
        struct msghdr *header = &rx->headers[at].msg_hdr;

        header->msg_iov = rx->vectors[at];
        header->msg_iovlen = 2;
        header->msg_name = NULL;
    }
}

/* Media is a publisher's: it waits for nothing, but for the rest of a picture that has begun. */
static void note_media(struct rx *rx, struct rx_far *far, uint32_t length)
{
    const uint8_t *data = rx->datagrams[rx->at];
    int last = data[1] >> 7;

    if (data[0] < 128 || (data[1] >= 192 && data[1] <= 223))
        return;
    rx->quiet = 0;
    if (!last && length > FULL && far->batch != rx->batch) {
        far->batch = rx->batch;
        rx->begun++;
    } else if (last && far->batch == rx->batch) {
        far->batch--;
        rx->begun--;
    }
}

void pass(struct rx *rx, struct rx_far *far, uint32_t length)
{
    uint8_t wrapping[WRAPPING] = {0};
    uint32_t named = name_length(rx, rx->at);
    struct iovec parts[2] = {{wrapping, WRAPPING}, {rx->datagrams[rx->at], length}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};

    memcpy(wrapping, rx->names[rx->at], named);
    wrapping[NAMED] = (uint8_t)named;
    far->seen = rx->now;
    note_media(rx, far, length);
    if (sendmsg(far->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        far->dropped++;
    else
        far->passed++;
}

struct rx_far *rx_place(struct rx *rx, int fd, const uint8_t *address, uint32_t length)
{
    struct rx_far *far = calloc(1, sizeof *far);

    if (far == NULL)
        return NULL;
    far->route.kind = FAR;
    far->route.tokens = rx->limits.burst;
    far->route.refilled = rx->now;
    far->fd = fd;
    if (lead(rx, &far->route, address, length) != 0) {
        free(far);
        return NULL;
    }
    return far;
}

void rx_displace(struct rx *rx, struct rx_far *far)
{
    unroute(rx, &far->route);
    free(far);
}
