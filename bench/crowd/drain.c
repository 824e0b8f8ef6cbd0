/*
 * Viewers' sockets, drained at little cost: media is counted, everything else handed back.
 *
 * Arrivals are the kernel's own time stamps of when a datagram came into the viewer's
 * socket, so that a busy receiver does not look like a late sender.
 */

#define _GNU_SOURCE
#include "crowd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 64
#define BATCH 64
#define DATAGRAM 2048
#define FRAMES 8192             /* four and a half minutes */

struct room {
    int poll;
    int back;
    volatile int stopped;
    uint32_t count;
    struct arrival arrivals[FRAMES];
    struct mmsghdr headers[BATCH];
    struct iovec vectors[BATCH];
    union {
        char bytes[CMSG_SPACE(sizeof(struct timespec))];
        struct cmsghdr align;
    } controls[BATCH];
    uint8_t datagrams[BATCH][DATAGRAM];
    struct seat seats[];
};

struct room *room_new(uint32_t seats, int back)
{
    struct room *room = calloc(1, sizeof *room + seats * sizeof(struct seat));

    if (room == NULL)
        return NULL;
    room->count = seats;
    room->back = back;
    room->poll = epoll_create1(EPOLL_CLOEXEC);
    if (room->poll < 0) {
        free(room);
        return NULL;
    }
    return room;
}

void room_free(struct room *room)
{
    close(room->poll);
    free(room);
}

struct seat *room_seat(struct room *room, uint32_t index)
{
    return index < room->count ? &room->seats[index] : NULL;
}

const struct arrival *room_arrival(struct room *room, uint32_t timestamp)
{
    return &room->arrivals[timestamp / FRAME_TICKS % FRAMES];
}

void room_stop(struct room *room)
{
    room->stopped = 1;
}

int room_open(struct room *room, uint32_t index, int fd, uint8_t payload_type)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};
    struct seat *seat = room_seat(room, index);
    int on = 1;

    if (seat == NULL)
        return EINVAL;
    seat->fd = fd;
    seat->payload_type = payload_type;
    if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) < 0)
        return errno;
    return epoll_ctl(room->poll, EPOLL_CTL_ADD, fd, &event) < 0 ? errno : 0;
}

static int64_t arrived(struct msghdr *header)
{
    struct timespec time;

    for (struct cmsghdr *at = CMSG_FIRSTHDR(header); at != NULL; at = CMSG_NXTHDR(header, at)) {
        if (at->cmsg_level == SOL_SOCKET && at->cmsg_type == SO_TIMESTAMPNS) {
            memcpy(&time, CMSG_DATA(at), sizeof time);
            return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
        }
    }
    clock_gettime(CLOCK_REALTIME, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void note_arrival(struct room *room, uint32_t timestamp, int64_t time)
{
    struct arrival *frame = &room->arrivals[timestamp / FRAME_TICKS % FRAMES];

    if (frame->viewers == 0 || frame->timestamp != timestamp) {
        frame->timestamp = timestamp;
        frame->viewers = 0;
        frame->first = frame->last = time;
    }
    if (time < frame->first)
        frame->first = time;
    if (time > frame->last)
        frame->last = time;
    frame->viewers++;
}

/* The transport-wide number, where the packet has one in the one-byte form (RFC 8285). */
static void note_number(struct seat *seat, struct msghdr *header, const uint8_t *data,
                        size_t length)
{
    size_t at = 12 + 4u * (data[0] & 15), end;

    if (!(data[0] & 0x10) || at + 4 > length || data[at] != 0xBE || data[at + 1] != 0xDE)
        return;
    end = at + 4 + 4u * (size_t)(data[at + 2] << 8 | data[at + 3]);
    for (at += 4; at + 3 <= end && end <= length; at += data[at] ? (data[at] & 15) + 2u : 1) {
        if (data[at] == (NUMBERS_ID << 4 | 1)) {
            uint16_t number = (uint16_t)(data[at + 1] << 8 | data[at + 2]);
            int16_t ahead = (int16_t)(number - (uint16_t)seat->numbered);

            if (seat->numbered == 0)
                seat->numbered = (1u << 16) + number;
            else if (ahead > 0)
                seat->numbered += (uint64_t)ahead;
            else
                return;
            seat->numbered_at = arrived(header);
            return;
        }
    }
}

static void take_media(struct room *room, struct seat *seat, struct msghdr *header,
                       const uint8_t *data)
{
    uint32_t ssrc = get32(data + 8);
    uint16_t sequence = (uint16_t)(data[2] << 8 | data[3]);
    int16_t ahead;

    if ((data[1] & 0x7f) == seat->sound_type) {
        seat->sounds++;
        return;
    }
    if ((data[1] & 0x7f) != seat->payload_type || (seat->started && ssrc != seat->ssrc)) {
        seat->resent++;
        return;
    }
    if (!seat->started) {
        seat->started = 1;
        seat->ssrc = ssrc;
        seat->highest = (1u << 16) + sequence - 1u;
    }
    ahead = (int16_t)(sequence - (uint16_t)seat->highest);
    if (ahead > 0)
        seat->highest += (uint32_t)ahead;
    seat->received++;
    if (seat->aligned && data[1] & 0x80)
        note_arrival(room, get32(data + 4) - seat->offset, arrived(header));
}

static void hand_back(struct room *room, uint32_t index, const uint8_t *data, size_t length)
{
    struct iovec parts[2] = {{&index, sizeof index}, {(void *)data, length}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};

    /* A full pipe drops: consent checks and reports come again. */
    if (sendmsg(room->back, &message, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
        room->seats[index].returned++;
}

static void drain_one(struct room *room, uint32_t index)
{
    struct seat *seat = &room->seats[index];
    int count = recvmmsg(seat->fd, room->headers, BATCH, MSG_DONTWAIT, NULL);

    for (int at = 0; at < count; at++) {
        const uint8_t *data = room->datagrams[at];
        size_t length = room->headers[at].msg_len;

        if (length >= 12 && data[0] >> 6 == 2 && (data[1] < 192 || data[1] > 223)) {
            take_media(room, seat, &room->headers[at].msg_hdr, data);
            note_number(seat, &room->headers[at].msg_hdr, data, length);
        } else {
            hand_back(room, index, data, length);
        }
        room->headers[at].msg_hdr.msg_controllen = sizeof room->controls[at].bytes;
    }
}

int room_drain(struct room *room)
{
    struct epoll_event events[EVENTS];

    for (int at = 0; at < BATCH; at++) {
        struct msghdr *header = &room->headers[at].msg_hdr;

        room->vectors[at].iov_base = room->datagrams[at];
        room->vectors[at].iov_len = DATAGRAM;
        header->msg_iov = &room->vectors[at];
        header->msg_iovlen = 1;
        header->msg_control = room->controls[at].bytes;
        header->msg_controllen = sizeof room->controls[at].bytes;
    }
    while (!room->stopped) {
        int ready = epoll_wait(room->poll, events, EVENTS, 50);

        if (ready < 0 && errno != EINTR)
            return errno;
        for (int at = 0; at < ready; at++)
            drain_one(room, events[at].data.u32);
    }
    return 0;
}
