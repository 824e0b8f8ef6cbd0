/*
 * The limit that the fan-out is held against: the same packets to the same viewers through
 * the same socket and keys, and nothing else.
 *
 * No history, no counters, no reports, no Python; what viewers send is read and dropped. All
 * that can be made once is made once: a message's header, its address, its control data.
 */

#define _GNU_SOURCE
#include "crowd.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef SOL_UDP
#define SOL_UDP 17
#endif

#define MOST 128                /* messages of one sendmmsg */
#define MESSAGE 65000
#define SEGMENTS 64
#define DRAIN 64
#define HEADER 12
#define NUMBER 8                /* bytes of an extension of a transport-wide number */
#define REST 0.004              /* seconds between two looks at what viewers send */

struct limit {
    int fd;
    uint32_t count;
    struct sockaddr_in addresses[MOST];
    struct mmsghdr headers[MOST];
    struct iovec vectors[MOST];
    union {
        char bytes[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr align;
    } controls[MOST];
    uint32_t segments[MOST];
    struct mmsghdr dropped[DRAIN];
    uint8_t arena[MOST][MESSAGE + 2048];
};

static void put32(uint8_t *at, uint32_t value)
{
    value = __builtin_bswap32(value);
    memcpy(at, &value, sizeof value);
}

static void prepare(struct limit *out)
{
    for (int at = 0; at < MOST; at++) {
        struct msghdr *header = &out->headers[at].msg_hdr;
        struct cmsghdr *control;

        out->addresses[at].sin_family = AF_INET;
        header->msg_name = &out->addresses[at];
        header->msg_namelen = sizeof out->addresses[at];
        out->vectors[at].iov_base = out->arena[at];
        header->msg_iov = &out->vectors[at];
        header->msg_iovlen = 1;
        header->msg_control = out->controls[at].bytes;
        header->msg_controllen = sizeof out->controls[at].bytes;
        control = CMSG_FIRSTHDR(header);
        control->cmsg_level = SOL_UDP;
        control->cmsg_type = UDP_SEGMENT;
        control->cmsg_len = CMSG_LEN(sizeof(uint16_t));
    }
}

static void flush(struct limit *out, struct limit_counts *counts)
{
    uint32_t done = 0;

    while (done < out->count) {
        int sent = sendmmsg(out->fd, out->headers + done, out->count - done, 0);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            break;
        for (int at = 0; at < sent; at++)
            counts->sent += out->segments[done + (uint32_t)at];
        done += (uint32_t)sent;
    }
    for (; done < out->count; done++)
        counts->unsent += out->segments[done];
    out->count = 0;
}

/* Write a packet's header, and its transport-wide number where the viewer is told those: who is
 * told none sends no feedback. Returns the length. */
static size_t write_header(struct target *target, struct outgoing *flow, uint8_t *packet,
                           uint32_t timestamp, int marker)
{
    packet[0] = target->numbers_id ? 0x90 : 0x80;
    packet[1] = (uint8_t)(flow->payload_type | (marker ? 0x80 : 0));
    packet[2] = (uint8_t)(flow->sequence >> 8);
    packet[3] = (uint8_t)flow->sequence;
    put32(packet + 4, flow->offset + timestamp);
    put32(packet + 8, flow->ssrc);
    flow->sequence++;
    if (target->numbers_id == 0)
        return HEADER;
    put32(packet + HEADER, 0xBEDE0001);
    put32(packet + HEADER + 4, (uint32_t)(target->numbers_id << 4 | 1) << 24 |
                                   (uint32_t)target->number++ << 8);
    return HEADER + NUMBER;
}

/* One unit to one viewer, in as few messages as its lengths allow. */
static int send_one(struct limit *out, protect_t protect, struct target *target,
                    const struct unit *unit, uint32_t batch, struct limit_counts *counts)
{
    struct outgoing *flow = unit->is_sound ? &target->sound : &target->video;
    uint32_t at = 0;

    if (flow->ssrc == 0)
        return 0;
    while (at < unit->packets) {
        uint32_t message = out->count, number = 0, first = unit->lengths[at];
        uint8_t *packet = out->arena[message];
        uint16_t segment = 0;

        do {
            uint32_t length = unit->lengths[at];
            int marker = !unit->is_sound && at + 1 == unit->packets;
            size_t head = write_header(target, flow, packet, unit->timestamp, marker);
            int total = (int)(head + length);

            memcpy(packet + head, unit->payloads[at], length);
            if (protect(target->srtp, packet, &total) != 0)
                return -1;
            if (number == 0)
                segment = (uint16_t)total;
            packet += total;
            number++;
            at++;
            if (length < first)
                break; /* only the last of a train may be shorter */
        } while (at < unit->packets && unit->lengths[at] <= first && number < SEGMENTS &&
                 (packet - out->arena[message]) + segment <= MESSAGE);
        memcpy(CMSG_DATA(&out->controls[message].align), &segment, sizeof segment);
        out->headers[message].msg_hdr.msg_controllen =
            number > 1 ? sizeof out->controls[message].bytes : 0;
        memcpy(&out->addresses[message].sin_addr, target->address, 4);
        out->addresses[message].sin_port = htons(target->port);
        out->vectors[message].iov_len = (size_t)(packet - out->arena[message]);
        out->segments[message] = number;
        if (++out->count >= batch)
            flush(out, counts);
    }
    return 0;
}

static double monotonic(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Wait until ``due``, and read and drop what comes meanwhile: what has come in a while at once. */
static void wait_until(struct limit *out, double due, struct limit_counts *counts)
{
    double left;

    while ((left = due - monotonic()) > 0) {
        struct timespec rest = {0, (long)((left < REST ? left : REST) * 1e9)};
        int count;

        nanosleep(&rest, NULL);
        while ((count = recvmmsg(out->fd, out->dropped, DRAIN, MSG_DONTWAIT, NULL)) > 0) {
            counts->drained += (uint64_t)count;
            if (count < DRAIN)
                break;
        }
    }
}

int limit_run(int fd, protect_t protect, struct target *targets, uint32_t count,
              const struct unit *units, uint32_t number, double begin, double end,
              uint32_t batch, struct limit_counts *counts)
{
    struct limit *out = calloc(1, sizeof *out);
    int failed = 0;

    if (out == NULL)
        return ENOMEM;
    if (batch > MOST)
        batch = MOST;
    out->fd = fd;
    prepare(out);
    for (uint32_t at = 0; at < number && !failed; at++) {
        wait_until(out, begin + units[at].at, counts);
        for (uint32_t to = 0; to < count && !failed; to++)
            failed = send_one(out, protect, &targets[to], &units[at], batch, counts);
        flush(out, counts);
    }
    wait_until(out, end, counts);
    free(out);
    return failed;
}
