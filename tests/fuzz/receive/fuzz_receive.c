/*
 * Coverage-guided fuzzing (libFuzzer) of native/receive.c and what it stands on: datagrams of three
 * publishers, two viewers, two of another process and a stranger, with what Python does between
 * them. SRTP is a stand-in that opens or refuses. The viewers' part is in viewers.h, what
 * publishers are told in publishers.h.
 *
 * ``make fuzz`` builds it so. With REPLAY it is a program of its own for any compiler, which
 * runs the files that it is given, each as it is and changed at random some hundred times.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <sanitizer/asan_interface.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>

struct mmsghdr;
static int fake_recvmmsg(int fd, struct mmsghdr *headers, unsigned count, int flags,
                         struct timespec *timeout);
static ssize_t fake_sendmsg(int fd, const struct msghdr *header, int flags);
static int fake_clock(clockid_t clock, struct timespec *told);
static ssize_t fake_getrandom(void *buffer, size_t length, unsigned flags);
#define getrandom fake_getrandom
#define recvmmsg fake_recvmmsg
#define sendmsg fake_sendmsg
#define clock_gettime fake_clock
/* All in one, so that what is static in them can be used to make what is right. */
#include "../../../relay/protocols/webrtc/native/far.c"
#include "../../../relay/protocols/webrtc/native/members.c"
#include "../../../relay/protocols/webrtc/native/names.c"
#include "../../../relay/protocols/webrtc/native/publishers.c"
#undef INTERVAL
#undef RECEIVER_REPORT
#include "../../../relay/protocols/webrtc/native/receive.c"
#include "../../../relay/protocols/webrtc/native/routes.c"
#include "../../../relay/protocols/webrtc/native/sound.c"
#include "../../../relay/protocols/webrtc/native/strangers.c"
#include "../../../relay/protocols/webrtc/native/units.c"
#include "../../../relay/protocols/webrtc/native/waiting.c"
#undef getrandom
#undef recvmmsg
#undef sendmsg
#undef clock_gettime
#include "../../../relay/protocols/webrtc/native/consent.c"
#include "../../../relay/protocols/webrtc/native/stun.c"
#include "../../../relay/protocols/webrtc/native/viewers.c"
#undef HEADER
#define take feedback_take
#include "../../../relay/protocols/webrtc/native/feedback.c"
#undef take
#undef HEADER
#define HEADER 12 /* as packets.h has it */
static int fake_sendmmsg(int fd, struct mmsghdr *headers, unsigned count, int flags);
#define sendmmsg fake_sendmmsg
#define put_control put_control_again
#include "../../../relay/protocols/webrtc/native/messages.c"
#undef put_control
#undef sendmmsg
#include "../../../relay/protocols/webrtc/native/again.c"
#include "../../../relay/protocols/webrtc/native/arrivals.c"

static const uint8_t *input;
static size_t left;
static struct rx_stream *streams[3];

static double now;

static int fake_clock(clockid_t clock, struct timespec *told)
{
    (void)clock;
    told->tv_sec = (time_t)now;
    told->tv_nsec = (long)((now - (double)told->tv_sec) * 1e9) + 1;
    now = (double)told->tv_sec + 1e-9 * (double)told->tv_nsec; /* it never goes back */
    return 0;
}

static uint8_t take(void)
{
    if (left == 0)
        return 0;
    left--;
    return *input++;
}

static void check(int condition)
{
    if (!condition)
        __builtin_trap();
}

#include "publishers.h"
#include "viewers.h"

/* What the stream waits for, to get deeper. */
static size_t begin_media(uint8_t *data, const struct rx_stream *stream, uint8_t shape)
{
    data[0] = (uint8_t)(0x80 | (shape & 0x10));
    data[1] = (uint8_t)(stream->payload_type | (shape & 1 ? 0x80 : 0));
    put16(data + 2, (uint16_t)(stream->next + (shape & 2 ? 1 : 0)));
    put32(data + 4, (stream->timestamp & ~0xFFu) |
                        (uint8_t)(stream->timestamp + (shape & 4 ? 1 : 0)));
    put32(data + 8, stream->ssrc);
    return 12;
}

static size_t begin_packet_of_sound(uint8_t *data, const struct rx_sound *from, uint8_t shape)
{
    data[0] = (uint8_t)(0x80 | (shape & 0x10));
    data[1] = from->payload_type;
    put16(data + 2, (uint16_t)(from->next + (shape & 2 ? 1 : 0)));
    put32(data + 4, from->timestamp + (shape & 4 ? 0x10000u * take() : 960));
    put32(data + 8, from->ssrc);
    return 12;
}

/* The next datagram: its length. ``place``: where it comes from. ``ends``: the batch. */
static size_t compose(uint8_t *data, size_t room, uint8_t *place, int *ends)
{
    uint8_t first = take(), shape = take();
    struct rx_stream *stream = (first & 3) < 3 ? streams[first & 3] : NULL;
    size_t size = take() * (shape & 0x40 ? 8u : 1u), at = 0;

    *ends = (shape & 8) != 0;
    *place = first & 3;
    if ((first & 0xF0) == OF_A_VIEWER) {
        *place = 4 + (first & 3);
        return compose_viewers(data, room, *place, first >> 2 & 3, shape, size);
    }
    if ((first & 0xF0) == OF_A_PUBLISHER && stream != NULL)
        return compose_stun(data, &stream->consent, shape,
                            size > LARGEST_OF_THEM ? LARGEST_OF_THEM : size);
    if ((first & 0xF0) == OF_SOUND && stream != NULL)
        at = begin_packet_of_sound(data, &stream->sound, shape);
    else if (shape & 0x80 && stream != NULL)
        at = begin_media(data, stream, shape);
    for (size_t end = at + size; at < end && at < room; at++)
        data[at] = take();
    return at;
}

static int fake_recvmmsg(int fd, struct mmsghdr *headers, unsigned count, int flags,
                         struct timespec *timeout)
{
    unsigned number = 0;

    (void)fd, (void)flags, (void)timeout;
    while (number < count && left > 0) {
        struct msghdr *header = &headers[number].msg_hdr;
        const struct iovec *into = &header->msg_iov[header->msg_iovlen - 1];
        uint8_t *data = into->iov_base, place;
        size_t room = into->iov_len, size;
        int ends;

        ASAN_UNPOISON_MEMORY_REGION(data, room);
        size = compose(data, room, &place, &ends);
        ASAN_POISON_MEMORY_REGION(data + size, room - size); /* to see reads beyond the end */
        headers[number].msg_len = (unsigned)size;
        if (header->msg_iovlen == 2)
            wrap(&headers[number], place);
        else
            write_name(header, place);
        number++;
        if (ends)
            break;
    }
    return (int)number;
}

static int unprotect(void *context, void *packet, int *length)
{
    uint8_t *data = packet;

    (void)context;
    if (*length < 12 || data[*length - 1] == 0xEE)
        return 7;
    *length -= *length >= 28 ? 16 : 0;
    return 0;
}

static void resume(struct rx *rx, struct rx_stream *stream, uint8_t who)
{
    uint8_t name[NAME];
    uint32_t size = name_of(name, who, 0);

    rx_resume(rx, stream, name, size, 0x01020304u + stream->number, (uint16_t)(0xFFF0 + take()));
}

/* Python learns of something, or of its end; from some time on strangers are nobody. */
static void know(struct rx *rx, uint8_t act)
{
    uint8_t bytes[64], name[NAME];
    uint32_t length = act >> 2 & 0x1F;

    if (act == 0xFF)
        rx_guard(rx);
    for (uint32_t at = 0; at < length; at++)
        bytes[at] = take();
    if ((act & 3) == RX_ADDRESS)
        rx_know_of(rx, RX_ADDRESS, name, name_of(name, take() & 7, 0), act >> 7);
    else
        rx_know_of(rx, act & 3, bytes, length, act >> 7);
}

/* One that somebody else has read, of whatever length. */
static void put(struct rx *rx)
{
    static uint8_t data[4096];
    uint8_t place, name[NAME], beyond = take();
    int ends;
    uint32_t size = (uint32_t)compose(data, DATAGRAM, &place, &ends), named;

    named = name_of(name, place, beyond & 4);
    if (beyond & 1)
        size = DATAGRAM - 100 + take();
    if (beyond & 2)
        named = take() % (NAME + 1);
    ASAN_UNPOISON_MEMORY_REGION(rx->datagrams, sizeof rx->datagrams);
    rx_put(rx, data, size, name, named, now);
    check(rx->count == (size <= DATAGRAM && named <= NAMED));
    if (rx->count)
        ASAN_POISON_MEMORY_REGION(rx->datagrams[0] + size, DATAGRAM - size);
}

static void on_datagram(struct rx *rx, const struct rx_event *event)
{
    uint8_t act = take();
    struct rx_stream *other = streams[act % 3];

    check(event->length <= DATAGRAM && event->address_length <= NAMED);
    if (act & 0x20)
        resume(rx, other, act & 3);
    if (act & 0x40)
        rx_forget(rx, event->address, event->address_length);
    if ((act & 0x9C) == 0x9C)
        rule(rx, take());
}

static void on_yield(struct rx *rx, struct rx_stream *stream, volatile uint8_t *seen)
{
    uint8_t act = take();

    check(!stream->active);
    for (uint32_t at = 0; at < stream->packets; at++) {
        const struct rx_packet *packet = &stream->train[at];

        check(packet->start + packet->length <= stream->used);
        for (uint32_t byte = 0; byte < packet->length; byte++)
            *seen ^= stream->bytes[packet->start + byte];
    }
    rx_clear(stream);
    if (act & 1)
        resume(rx, stream, (uint8_t)stream->number);
    if (act == 0x77) {
        uint32_t number = stream->number;

        rx_close(rx, streams[number]);
        streams[number] = rx_open(rx, NULL, 96, 3, number);
        check(streams[number] != NULL);
        gone += published[number].answered + published[number].reports;
        begin_publisher(streams[number], number);
    }
}

/* Have packets come in order, the one after the other or with a hole; whether all is well. */
static int fill_log(struct rx_stream *stream, uint8_t act)
{
    uint8_t step = take(), slow = take();
    uint32_t count = take() + (act & 1u);
    double at = now;

    for (uint32_t n = 0; n < count; n++) {
        at += TICK * step * (slow > 0 && n % slow == 0 ? 200 : 1);
        stream->log[n].at = at;
        stream->log[n].sequence = (uint16_t)(stream->untold + n);
    }
    stream->arrivals = count;
    if (act & 2)
        stream->log[count / 2].sequence ^= 1;
    return count > 0 && !(act & 2) && slow == 0;
}

/* Feedback about what has come: natively, or as Python does where that writes none. */
static void tell(struct rx_stream *stream, uint8_t act)
{
    static uint8_t written[RX_FEEDBACK];
    int well = act & 1 && fill_log(stream, act >> 1);
    uint32_t count = stream->arrivals, length;
    uint8_t number = stream->feedbacks;
    struct feedback told;

    stream->tells = act & 1;
    length = rx_feedback(stream, 7, written);
    if (length == 0) {
        check(!well && stream->arrivals == count && stream->feedbacks == number);
        stream->arrivals = 0;
        return;
    }
    check(stream->tells && length > HEAD && length <= RX_FEEDBACK && length % 4 == 0);
    check(stream->arrivals == 0 && stream->feedbacks == (uint8_t)(number + 1));
    check(feedback_read(&told, written, length) == 0 && told.told == count);
    check(told.received == count && told.newest == (uint16_t)(stream->untold - 1));
}

static void on_unit(const struct rx *rx, const struct rx_event *event)
{
    struct rx_stream *stream = event->stream;
    uint8_t act = take();

    if ((act & 0x18) == 0x18)
        rule_publisher(rx, event, take());

    if (act & 1)
        tell(stream, act >> 2);
    if (act & 2) {
        stream->plain = act & 4;
        stream->shown = stream->timestamp;
        stream->unit_tokens = act >> 4;
    }
}

static void deal(struct rx *rx)
{
    volatile uint8_t seen = 0;
    struct rx_event event;
    int kind;

    while ((kind = rx_next(rx, &event)) != RX_IDLE) {
        if (kind == RX_DATAGRAM || kind == RX_UNIT || kind == RX_PLAIN || kind == RX_SAID)
            for (uint32_t at = 0; at < event.length; at++)
                seen ^= event.data[at];
        if (kind == RX_DATAGRAM) {
            on_datagram(rx, &event);
        } else if (kind == RX_SAID) {
            on_said(rx, &event);
        } else {
            check(event.stream->arrivals <= RX_LOG);
            if (kind == RX_YIELD) {
                on_yield(rx, event.stream, &seen);
            } else if (kind == RX_PLAIN && event.flags & RX_SOUND) {
                on_sound(rx, &event);
            } else {
                check(kind == RX_NOTED ||
                      (event.stream->joined > 0 && event.stream->packets == 0));
                check(kind != RX_PLAIN || (event.stream->plain && event.stream->pictures > 0));
                check(kind != RX_PLAIN || (event.flags & RX_MORE) || rx->at == rx->count);
                on_unit(rx, &event);
            }
        }
        check_routes(rx);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rx_doors doors = {unprotect, unprotect_rtcp, protect_rtcp};
    struct rx *rx = rx_new(-1, doors, 42, (struct rx_limits){100, 400, 20});

    now = 0;
    input = data, left = size;
    check(rx != NULL);
    for (uint32_t at = 0; at < 3; at++) {
        streams[at] = rx_open(rx, NULL, 96, at == 1 ? 0 : 3, at);
        check(streams[at] != NULL);
        resume(rx, streams[at], (uint8_t)at);
        begin_publisher(streams[at], at);
    }
    begin_viewers(rx);
    while (left > 0) {
        uint8_t step = take();

        now += 0.001 * step;
        if (step == 0xFC)
            rule(rx, take());
        if (step == 0xFB)
            know(rx, take());
        if (step == 0xFD)
            put(rx);
        else
            rx_read(rx, now);
        rx->more = step & MORE;
        deal(rx);
        check_viewers(rx);
    }
    for (uint32_t at = 0; at < 3; at++)
        rx_close(rx, streams[at]);
    end_viewers(rx);
    check(rx->routes == 0);
    ASAN_UNPOISON_MEMORY_REGION(rx->datagrams, sizeof rx->datagrams);
    rx_free(rx);
    return 0;
}

#ifdef REPLAY
#include "../replay.h"
#endif
