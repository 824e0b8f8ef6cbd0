/*
 * Viewers' sockets, drained at little cost: media is counted and noted as a receiver's reports and
 * feedback need it, everything else handed back.
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
#define MISSING 64              /* numbers asked for at once */
#define TICK 250000             /* ns */
#define FRAMES 8192             /* four and a half minutes */

struct room {
    int poll;
    int back;
    volatile int stopped;
    uint32_t count;
    uint32_t thrown;
    int64_t began;
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

static int64_t clock_now(clockid_t clock)
{
    struct timespec time;

    clock_gettime(clock, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

struct room *room_new(uint32_t seats, int back, uint32_t thrown)
{
    struct room *room = calloc(1, sizeof *room + seats * sizeof(struct seat));

    if (room == NULL)
        return NULL;
    room->thrown = thrown;
    room->began = clock_now(CLOCK_MONOTONIC);
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

int room_open(struct room *room, uint32_t index, int fd, uint8_t video, uint8_t sound)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};
    struct seat *seat = room_seat(room, index);
    int on = 1;

    if (seat == NULL)
        return EINVAL;
    seat->fd = fd;
    seat->video.type = video;
    seat->sound.type = sound;
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
    return clock_now(CLOCK_REALTIME);
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

static void note_read(struct seat *seat, uint16_t number, uint32_t tick)
{
    int16_t ahead = (int16_t)(number - (uint16_t)seat->numbered);

    if (seat->numbered == 0) {
        seat->numbered = (1u << 16) + number;
    } else if (ahead > 0) {
        for (int16_t at = 1; at < ahead && at <= READ_KEPT; at++)
            seat->read_at[(seat->numbered + (uint64_t)at) % READ_KEPT] = 0;
        seat->read_at[number % READ_KEPT] = tick;
        seat->numbered += (uint64_t)ahead; /* last: who looks finds what it is about */
        return;
    } else if (ahead <= -READ_KEPT) {
        return;
    }
    seat->read_at[number % READ_KEPT] = tick;
}

/* The transport-wide number, where the packet has one in the one-byte form (RFC 8285). */
static void note_number(struct seat *seat, const uint8_t *data, size_t length, uint32_t tick)
{
    size_t at = 12 + 4u * (data[0] & 15), end;

    if (!(data[0] & 0x10) || at + 4 > length || data[at] != 0xBE || data[at + 1] != 0xDE)
        return;
    end = at + 4 + 4u * (size_t)(data[at + 2] << 8 | data[at + 3]);
    for (at += 4; at + 3 <= end && end <= length; at += data[at] ? (data[at] & 15) + 2u : 1) {
        if (data[at] == (NUMBERS_ID << 4 | 1)) {
            note_read(seat, (uint16_t)(data[at + 1] << 8 | data[at + 2]), tick);
            return;
        }
    }
}

static int has_come(const struct flow *flow, uint16_t sequence)
{
    return flow->numbers[sequence >> 3] >> (sequence & 7) & 1;
}

/* A number that came; those that it leaves out have not. Returns whether it is new. */
static int note_sequence(struct flow *flow, uint16_t sequence)
{
    int16_t ahead = (int16_t)(sequence - (uint16_t)flow->reached);

    if (ahead <= 0 && has_come(flow, sequence))
        return 0;
    for (int16_t at = 1; at < ahead; at++) {
        uint16_t between = (uint16_t)(flow->reached + (uint32_t)at);

        flow->numbers[between >> 3] &= (uint8_t)~(1 << (between & 7));
    }
    flow->numbers[sequence >> 3] |= (uint8_t)(1 << (sequence & 7));
    if (ahead > 0)
        flow->reached += (uint32_t)ahead;
    flow->came++;
    return 1;
}

uint32_t room_came(const struct flow *flow, uint16_t first, uint32_t count)
{
    uint32_t found = 0;

    for (uint32_t at = 0; flow->started && at < count; at++) {
        uint16_t sequence = (uint16_t)(first + at);

        found += (int16_t)(sequence - (uint16_t)flow->reached) <= 0 && has_come(flow, sequence);
    }
    return found;
}

/* RFC 3550 A.8, of a packet that was kept. */
static void note_jitter(struct flow *flow, uint32_t timestamp, int64_t time, int64_t rate)
{
    uint32_t transit = (uint32_t)(time / 1000 * rate / 1000000) - timestamp;
    int32_t change = (int32_t)(transit - flow->transit);

    if (flow->timed)
        flow->jitter += (uint32_t)(change < 0 ? -change : change) - ((flow->jitter + 8) >> 4);
    flow->timed = 1;
    flow->transit = transit;
}

/* The numbers before this one that are missing, the last MISSING of them. */
static void ask_again(struct room *room, uint32_t index, uint32_t next, uint32_t before)
{
    uint8_t what = ASK;
    uint16_t numbers[MISSING];
    uint32_t count = before - next < MISSING ? before - next : MISSING;
    struct iovec parts[3] = {
        {&index, sizeof index}, {&what, sizeof what}, {numbers, count * sizeof numbers[0]}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 3};

    for (uint32_t at = 0; at < count; at++)
        numbers[at] = (uint16_t)(before - count + at);
    sendmsg(room->back, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int is_thrown(const struct room *room, const struct flow *flow, uint16_t sequence)
{
    uint32_t mixed = (flow->ssrc ^ sequence) * 2654435761u;

    return room->thrown && (mixed ^ mixed >> 15) % room->thrown == 0;
}

static void begin(struct flow *flow, uint32_t ssrc, uint16_t sequence)
{
    flow->ssrc = ssrc;
    flow->first = (1u << 16) + sequence;
    flow->highest = flow->reached = flow->first - 1;
    flow->started = 1;
}

/* Returns whether it was kept. */
static int take_media(struct room *room, uint32_t index, struct msghdr *header,
                      const uint8_t *data)
{
    struct seat *seat = &room->seats[index];
    int is_video = (data[1] & 0x7f) == seat->video.type, last = data[1] & 0x80;
    struct flow *flow = is_video ? &seat->video : &seat->sound;
    uint32_t ssrc = get32(data + 8), timestamp = get32(data + 4);
    uint16_t sequence = (uint16_t)(data[2] << 8 | data[3]);
    int16_t ahead;
    int64_t time;

    if ((data[1] & 0x7f) != flow->type || (flow->started && ssrc != flow->ssrc)) {
        seat->resent++;
        return 1;
    }
    if (!flow->started)
        begin(flow, ssrc, sequence);
    if (!note_sequence(flow, sequence)) {
        seat->resent++;
        flow->kept++;
        return 1;
    }
    time = !is_video || last ? arrived(header) : 0;
    if (is_video && last && seat->aligned)
        note_arrival(room, timestamp - seat->offset, time);
    if (is_video && is_thrown(room, flow, sequence)) {
        flow->thrown++;
        return 0;
    }
    if (time)
        note_jitter(flow, timestamp, time, is_video ? 90000 : 48000);
    ahead = (int16_t)(sequence - (uint16_t)flow->highest);
    if (is_video && ahead > 1)
        ask_again(room, index, flow->highest + 1, flow->highest + (uint32_t)ahead);
    flow->kept++;
    if (ahead > 0)
        flow->highest += (uint32_t)ahead;
    return 1;
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
    uint32_t tick = (uint32_t)((clock_now(CLOCK_MONOTONIC) - room->began) / TICK) + 1;

    for (int at = 0; at < count; at++) {
        const uint8_t *data = room->datagrams[at];
        size_t length = room->headers[at].msg_len;

        if (length >= 12 && data[0] >> 6 == 2 && (data[1] < 192 || data[1] > 223)) {
            if (take_media(room, index, &room->headers[at].msg_hdr, data))
                note_number(seat, data, length, tick);
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
