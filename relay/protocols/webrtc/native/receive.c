/*
 * The common case of receiving: publishers' video in order, from datagrams to access units.
 *
 * A batch of datagrams is read at once. Those that continue a known stream are opened and
 * kept as its train; the one with the marker makes an access unit of it. Everything else is
 * handed up as it came, and what a train holds is handed up before it, so that the order in
 * which Python sees a stream is the order on the wire.
 *
 * These are bytes of strangers. A header is believed for one thing before SRTP has opened the
 * packet: to send it up. Each read is held to the length of what was received.
 */

#define _GNU_SOURCE
#include "receive.h"

#include "viewers.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64
#define DATAGRAM 2048
#define LARGEST 1500           /* bytes of a media packet */
#define HEADER 12
#define ONE_BYTE 0xBEDE
#define ROUTES 16384           /* slots; a power of two */
#define MOST_ROUTES 8192
#define TRAIN_PACKETS 2048
#define MOST_UNITS 64          /* NAL units of an aggregate, as h264_payload.py has it */
#define TRAIN_BYTES (1u << 20)
#define TELL_AT 200
#define TELL_AFTER 0.03        /* seconds; as arrivals.py has it */
#define SLOW 0.05              /* seconds between two pictures: what has come is told with each */
#define REST_NS 300000         /* until the rest of a picture that has begun is read */
#define REST_WELL_NS 4000000   /* until more of what viewers send is read, where it comes fast */
#define FAST 0.001             /* seconds between two batches */
#define CLOCK 90000.0
#define MAX_JUMP 900000u       /* ticks; a longer step is another clock, as timeline.py has it */
#define TURN 0.002             /* seconds of other work for which one batch more is read */
#define MORE 7                 /* such batches at most: then the others have their turn */
#define LONGEST_STEP 5.0       /* seconds; a longer one is a jump of the sender's clock */
#define KEY sizeof(((struct rx_route *)0)->key)
#define HASHED 24              /* bytes of it: all but an IPv6 address of ours */
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
    double now;
    uint8_t *unit;
    size_t unit_room;
    struct rx_route *table[ROUTES];
    struct mmsghdr headers[BATCH];
    struct iovec vectors[BATCH][2];
    size_t told;                /* bytes of ``controls``; 0: the socket does not tell to which
                                   of our addresses a datagram came */
    union {
        char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo))];
        struct cmsghdr align;
    } controls[BATCH];
    _Alignas(8) uint8_t names[BATCH][WRAPPING];
    _Alignas(16) uint8_t datagrams[BATCH][DATAGRAM];
};

struct header {
    uint32_t timestamp;
    uint32_t payload;           /* where it starts */
    int32_t transport;          /* -1: none */
    uint16_t sequence;
    uint8_t marker;
};

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)get16(at) << 16 | get16(at + 2);
}

/* -- where datagrams come from ----------------------------------------------------------- */

/* 0, or -1 for another family. */
static int make_key(uint8_t *key, const uint8_t *address, uint32_t length)
{
    sa_family_t family;

    memset(key, 0, KEY);
    if (length < sizeof family)
        return -1;
    memcpy(&family, address, sizeof family);
    if (family == AF_INET && length >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in four;

        memcpy(&four, address, sizeof four);
        key[0] = 4;
        memcpy(key + 2, &four.sin_port, 2);
        memcpy(key + 4, &four.sin_addr, 4);
        if (length >= sizeof four + sizeof four.sin_addr)
            memcpy(key + 8, address + sizeof four, sizeof four.sin_addr);
        return 0;
    }
    if (family == AF_INET6 && length >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 six;

        memcpy(&six, address, sizeof six);
        key[0] = 6;
        memcpy(key + 2, &six.sin6_port, 2);
        memcpy(key + 4, &six.sin6_addr, 16);
        memcpy(key + 20, &six.sin6_scope_id, 4);
        if (length >= sizeof six + OURS)
            memcpy(key + HASHED, address + sizeof six, OURS);
        return 0;
    }
    return -1;
}

/* The length of a datagram's name, with our address behind it where that is told. */
static uint32_t name_length(struct rx *rx, uint32_t at)
{
    struct msghdr *header = &rx->headers[at].msg_hdr;
    uint32_t length = header->msg_namelen;
    const struct cmsghdr *control;

    if (rx->told == 0 || (control = CMSG_FIRSTHDR(header)) == NULL)
        return length;
    if (control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_PKTINFO &&
        length == sizeof(struct sockaddr_in)) {
        struct in_pktinfo four;

        memcpy(&four, CMSG_DATA(control), sizeof four);
        memcpy(rx->names[at] + length, &four.ipi_spec_dst, sizeof four.ipi_spec_dst);
        return length + (uint32_t)sizeof four.ipi_spec_dst;
    }
    if (control->cmsg_level == IPPROTO_IPV6 && control->cmsg_type == IPV6_PKTINFO &&
        length == sizeof(struct sockaddr_in6)) {
        struct in6_pktinfo six;

        memcpy(&six, CMSG_DATA(control), sizeof six);
        memcpy(rx->names[at] + length, &six.ipi6_addr, OURS);
        return length + OURS;
    }
    return length;
}

static uint32_t slot_of(const struct rx *rx, const uint8_t *key)
{
    uint64_t hash = rx->seed;

    for (size_t at = 0; at < HASHED; at += 8) {
        uint64_t word;

        memcpy(&word, key + at, 8);
        hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 29;
    }
    return (uint32_t)(hash >> 16) & (ROUTES - 1);
}

static struct rx_route *find(const struct rx *rx, const uint8_t *key, uint32_t *where)
{
    uint32_t slot = slot_of(rx, key);

    while (rx->table[slot] != NULL && memcmp(rx->table[slot]->key, key, KEY) != 0)
        slot = (slot + 1) & (ROUTES - 1);
    *where = slot;
    return rx->table[slot];
}

/* Empty a slot, and move those behind it up that would not be found any more. */
static void unroute(struct rx *rx, struct rx_route *route)
{
    uint32_t slot, hole;

    if (!route->routed || find(rx, route->key, &hole) != route)
        return;
    route->routed = 0;
    rx->routes--;
    rx->table[hole] = NULL;
    for (slot = (hole + 1) & (ROUTES - 1); rx->table[slot] != NULL;
         slot = (slot + 1) & (ROUTES - 1)) {
        uint32_t home = slot_of(rx, rx->table[slot]->key);

        if (((slot - home) & (ROUTES - 1)) >= ((slot - hole) & (ROUTES - 1))) {
            rx->table[hole] = rx->table[slot];
            rx->table[slot] = NULL;
            hole = slot;
        }
    }
}

/* -- one packet --------------------------------------------------------------------------- */

/* The common form: version 2, no padding, no CSRC, at most an extension of one-byte elements.
 * 0, or -1 for any other. */
static int read_header(struct header *out, const uint8_t *data, uint32_t length,
                       uint8_t extension)
{
    if (length < HEADER || (data[0] & 0xEF) != 0x80)
        return -1;
    out->marker = data[1] >> 7;
    out->sequence = get16(data + 2);
    out->timestamp = get32(data + 4);
    out->payload = HEADER;
    out->transport = -1;
    if (data[0] & 0x10) {
        uint32_t at = HEADER + 4, end;

        if (length < at || get16(data + HEADER) != ONE_BYTE)
            return -1;
        end = at + 4u * get16(data + HEADER + 2);
        if (end > length)
            return -1;
        out->payload = end;
        while (at < end && extension != 0) {
            uint32_t size = (data[at] & 0x0Fu) + 1;

            if (data[at] == 0) {
                at++;
                continue;
            }
            if (data[at] >> 4 == 15 || at + 1 + size > end)
                break;
            if (data[at] >> 4 == extension) {
                if (size >= 2)
                    out->transport = get16(data + at + 1);
                break;
            }
            at += 1 + size;
        }
    }
    return out->payload < length ? 0 : -1;
}

/* 0, or -1: no memory. */
static int append(struct rx_stream *stream, const uint8_t *data, uint32_t length, double now)
{
    struct rx_packet *packet;

    if (stream->packets == stream->packet_room) {
        uint32_t room = stream->packet_room ? 2 * stream->packet_room : 64;
        struct rx_packet *larger = realloc(stream->train, room * sizeof *larger);

        if (larger == NULL)
            return -1;
        stream->train = larger;
        stream->packet_room = room;
    }
    if (stream->used + length > stream->room) {
        uint32_t room = stream->room ? 2 * stream->room : 1u << 15;
        uint8_t *larger = realloc(stream->bytes, room);

        if (larger == NULL)
            return -1;
        stream->bytes = larger;
        stream->room = room;
    }
    packet = &stream->train[stream->packets++];
    packet->arrival = now;
    packet->start = stream->used;
    packet->length = length;
    memcpy(stream->bytes + stream->used, data, length);
    stream->used += length;
    return 0;
}

/* -- an access unit ------------------------------------------------------------------------ */

struct joined {
    uint8_t *at;
    uint32_t flags;
};

static void note(struct joined *out, uint8_t kind, uint8_t following)
{
    if (kind == 7)
        out->flags |= RX_PARAMETERS;
    if (kind != 1 && kind != 5)
        return;
    if (!(out->flags & RX_PICTURE)) {
        out->flags |= RX_PICTURE;
        /* first_mb_in_slice is 0 exactly when its Exp-Golomb code is a single 1 bit */
        if (following >= 0x80)
            out->flags |= RX_STARTS;
    }
    if (kind == 5)
        out->flags |= RX_KEYFRAME;
}

static void start_code(struct joined *out)
{
    static const uint8_t code[4] = {0, 0, 0, 1};

    memcpy(out->at, code, sizeof code);
    out->at += sizeof code;
}

static void put_nal(struct joined *out, const uint8_t *nal, uint32_t length)
{
    uint8_t kind = nal[0] & 0x1F;

    if (kind == 9 || kind == 12)
        return; /* access unit delimiters and filler are left out */
    note(out, kind, length > 1 ? nal[1] : 0);
    start_code(out);
    memcpy(out->at, nal, length);
    out->at += length;
}

/* One payload. 0, or -1 when it is not the common case: Python is to judge it. */
static int put_payload(struct joined *out, const uint8_t *payload, uint32_t length,
                       int *in_fragment)
{
    uint8_t kind;

    if (length == 0)
        return -1;
    kind = payload[0] & 0x1F;
    if (kind == 28) {
        uint8_t flags;

        if (length < 3)
            return -1;
        flags = payload[1];
        if (((flags & 0x80) != 0) == (*in_fragment != 0))
            return -1;
        if (flags & 0x80) {
            *in_fragment = 1;
            note(out, flags & 0x1F, payload[2]);
            start_code(out);
            *out->at++ = (uint8_t)((payload[0] & 0xE0) | (flags & 0x1F));
        }
        memcpy(out->at, payload + 2, length - 2);
        out->at += length - 2;
        if (flags & 0x40)
            *in_fragment = 0;
        return 0;
    }
    if (*in_fragment)
        return -1;
    if (kind >= 1 && kind <= 23) {
        put_nal(out, payload, length);
        return 0;
    }
    if (kind != 24)
        return -1;
    for (uint32_t at = 1, units = 0; at < length; units++) {
        uint32_t size;

        if (at + 2 > length || units == MOST_UNITS)
            return -1;
        size = get16(payload + at);
        at += 2;
        if (size > length - at)
            return -1;
        if (size > 0)
            put_nal(out, payload + at, size);
        at += size;
    }
    return 0;
}

/* The whole train as an access unit. 0, or -1 when it is not the common case. */
static int join(struct rx *rx, struct rx_stream *stream, struct rx_event *event)
{
    /* A NAL unit grows by 4 bytes, or by 2 behind its length in an aggregate, where it has 3
     * with it at least. */
    size_t most = 2 * (size_t)stream->used + 8 * (size_t)stream->packets;
    struct joined out = {NULL, 0};
    struct header header;
    uint64_t octets = 0;
    int in_fragment = 0;

    if (most > rx->unit_room) {
        uint8_t *larger = realloc(rx->unit, most);

        if (larger == NULL)
            return -1;
        rx->unit = larger;
        rx->unit_room = most;
    }
    out.at = rx->unit;
    for (uint32_t at = 0; at < stream->packets; at++) {
        const struct rx_packet *packet = &stream->train[at];
        const uint8_t *data = stream->bytes + packet->start;

        if (read_header(&header, data, packet->length, 0) != 0)
            return -1;
        octets += packet->length - header.payload;
        if (put_payload(&out, data + header.payload, packet->length - header.payload,
                        &in_fragment) != 0)
            return -1;
    }
    if (in_fragment || stream->packets == 0)
        return -1;
    event->data = rx->unit;
    event->length = (uint32_t)(out.at - rx->unit);
    event->flags = out.flags;
    event->timestamp = stream->timestamp;
    stream->joined += stream->packets;
    stream->octets += octets;
    return 0;
}

/* As reception.py has it. */
static void measure(struct rx_stream *stream)
{
    double now = stream->train[0].arrival;
    int32_t ticks = (int32_t)(stream->timestamp - stream->measured);
    double step = (now - stream->measured_at) * CLOCK - ticks;

    if (step < 0)
        step = -step;
    if (step < LONGEST_STEP * CLOCK)
        stream->jitter += (step - stream->jitter) / 16;
    stream->measured = stream->timestamp;
    stream->measured_at = now;
}

/* -- what was read --------------------------------------------------------------------------- */

/* How many of them came whole; the end of the stream is none. */
static int unwrap(struct rx *rx, int count)
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

uint32_t rx_read(struct rx *rx, double now)
{
    int count;

    for (uint32_t at = 0; at < rx->used; at++) {
        rx->headers[at].msg_hdr.msg_namelen = sizeof(struct sockaddr_in6);
        rx->headers[at].msg_hdr.msg_controllen = rx->told;
    }
    count = recvmmsg(rx->fd, rx->headers, BATCH, MSG_DONTWAIT, NULL);
    rx->used = count > 0 ? (uint32_t)count : 1;
    if (rx->wrapped)
        count = unwrap(rx, count);
    rx->before = rx->now;
    rx->now = now;
    rx->quiet = 1;
    rx->at = 0;
    rx->batch++;
    rx->begun = 0;
    rx->count = count > 0 ? (uint32_t)count : 0;
    rx->counts.received += rx->count;
    return rx->count;
}

void rx_put(struct rx *rx, const uint8_t *data, uint32_t length, const uint8_t *address,
            uint32_t address_length, double now)
{
    struct msghdr *header = &rx->headers[0].msg_hdr;

    rx->now = now;
    rx->at = 0;
    rx->begun = 0;
    rx->count = length <= DATAGRAM && address_length <= NAMED;
    if (rx->count == 0)
        return;
    memcpy(rx->datagrams[0], data, length);
    memcpy(rx->names[0], address, address_length);
    header->msg_namelen = address_length;
    header->msg_controllen = 0;
    rx->headers[0].msg_len = length;
}

/* As budget.py has it. */
static int spend(double *tokens, double *filled_at, double now, double rate, double burst)
{
    if (*tokens < 1) {
        *tokens += (now - *filled_at) * rate;
        if (*tokens > burst)
            *tokens = burst;
        *filled_at = now;
    }
    if (*tokens < 1)
        return 0;
    *tokens -= 1;
    return 1;
}

static int within_budget(const struct rx *rx, struct rx_route *route)
{
    if (spend(&route->tokens, &route->refilled, rx->now, rx->limits.rate, rx->limits.burst))
        return 1;
    route->limited++;
    return 0;
}

/* -- waiting ---------------------------------------------------------------------------------- */

static void wake_by(struct rx *rx, uint32_t events, long nanoseconds)
{
    struct epoll_event socket = {.events = events};
    struct itimerspec timer = {.it_value.tv_nsec = nanoseconds};

    rx->resting = events == 0;
    epoll_ctl(rx->epoll, EPOLL_CTL_MOD, rx->fd, &socket);
    timerfd_settime(rx->timer, 0, &timer, NULL);
}

/* Whether viewers send that all is well so fast that it pays to read it together. */
static int is_busy(const struct rx *rx)
{
    if (!rx->quiet || rx->streams > 0)
        return 0;
    return rx->resting ? rx->count > 1 : rx->now - rx->before < FAST;
}

/* Packets come one by one, and to be woken costs more than to read one. While a picture has
 * begun, its rest is read together, a little later; and what many viewers send likewise. */
static void rest(struct rx *rx)
{
    struct itimerspec timer = {.it_value.tv_nsec = rx->begun > 0 ? REST_NS : REST_WELL_NS};

    if (rx->epoll < 0)
        return;
    if (rx->count == BATCH || (rx->begun == 0 && !is_busy(rx))) {
        if (rx->resting)
            wake_by(rx, EPOLLIN, 0);
    } else if (!rx->resting) {
        wake_by(rx, 0, timer.it_value.tv_nsec);
    } else {
        timerfd_settime(rx->timer, 0, &timer, NULL);
    }
}

int rx_watch(struct rx *rx)
{
    struct epoll_event event = {.events = EPOLLIN};

    rx->epoll = epoll_create1(EPOLL_CLOEXEC);
    rx->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (rx->epoll < 0 || rx->timer < 0 ||
        epoll_ctl(rx->epoll, EPOLL_CTL_ADD, rx->fd, &event) != 0 ||
        epoll_ctl(rx->epoll, EPOLL_CTL_ADD, rx->timer, &event) != 0)
        rx_unwatch(rx);
    return rx->epoll;
}

void rx_unwatch(struct rx *rx)
{
    rx->at = rx->count; /* what waits is for nobody any more */
    rx->more = 0;
    if (rx->epoll >= 0)
        close(rx->epoll);
    if (rx->timer >= 0)
        close(rx->timer);
    rx->epoll = rx->timer = -1;
}

static double clock_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* At the end of a batch: whether there is another one. Else this turn is over. */
static int more(struct rx *rx)
{
    while (rx->at == rx->count) {
        if (rx->count < BATCH || rx->more == 0) {
            rest(rx);
            rx->read_at = clock_now();
            return 0;
        }
        rx->more--;
        rx_read(rx, clock_now());
    }
    return 1;
}

/* -- what is told of it ----------------------------------------------------------------------- */

static int yield(struct rx_stream *stream, struct rx_event *event)
{
    stream->active = 0;
    event->stream = stream;
    event->number = stream->number;
    return RX_YIELD;
}

static int datagram(struct rx *rx, struct rx_event *event, uint32_t length)
{
    event->data = rx->datagrams[rx->at];
    event->length = length;
    event->address = rx->names[rx->at];
    event->address_length = name_length(rx, rx->at);
    rx->at++;
    return RX_DATAGRAM;
}

/* Whether a picture is one of most: it follows one that is shown, in time, and is no key frame. */
static int goes_on(const struct rx *rx, struct rx_stream *stream, struct rx_event *event)
{
    uint32_t step = stream->timestamp - stream->shown;

    if (!stream->plain || (event->flags & ~(uint32_t)(RX_STARTS | RX_ARRIVALS)) != RX_PICTURE ||
        step > MAX_JUMP ||
        !spend(&stream->unit_tokens, &stream->units_filled_at, rx->now, rx->limits.units,
              rx->limits.units))
        return 0;
    stream->shown = stream->timestamp;
    stream->shown_at = rx->now;
    event->pts = stream->pts += step;
    stream->pictures++;
    return 1;
}

/* Whether a picture is to bring its arrivals with it, or the next one soon will. */
static int is_to_be_told(const struct rx *rx, const struct rx_stream *stream)
{
    return stream->arrivals > 0 &&
           (stream->arrivals >= TELL_AT || rx->now - stream->log[0].at >= TELL_AFTER ||
            rx->now - stream->shown_at >= SLOW);
}

/* A packet of an active stream; RX_IDLE when there is nothing to tell of it. */
static int media(struct rx *rx, struct rx_stream *stream, struct rx_event *event,
                 uint32_t received)
{
    uint8_t *data = rx->datagrams[rx->at];
    int length = (int)received, told = RX_IDLE;
    struct header header;

    if ((data[1] & 0x7F) != stream->payload_type || get32(data + 8) != stream->ssrc)
        return datagram(rx, event, received); /* sound, a retransmission: another order */
    if (read_header(&header, data, received, stream->extension) != 0 ||
        header.sequence != stream->next ||
        (stream->packets > 0 && header.timestamp != stream->timestamp) ||
        stream->packets == TRAIN_PACKETS || stream->used + received > TRAIN_BYTES)
        return yield(stream, event); /* and then this one, as it came */
    rx->at++;
    if (rx->doors.rtp(stream->srtp, data, &length) != 0 || length < HEADER ||
        length > (int)received) {
        stream->refused++;
        return RX_IDLE;
    }
    if (append(stream, data, (uint32_t)length, rx->now) != 0) {
        stream->refused++; /* no memory; opened twice it would be a replay */
        return yield(stream, event);
    }
    stream->heard = rx->now;
    stream->next++;
    stream->timestamp = header.timestamp;
    if (stream->batch != rx->batch) {
        stream->batch = rx->batch;
        rx->begun++;
    }
    if (header.transport >= 0 && stream->arrivals < RX_LOG) {
        struct rx_arrival *arrival = &stream->log[stream->arrivals++];

        arrival->at = rx->now;
        arrival->sequence = (uint32_t)header.transport;
        if (stream->arrivals == TELL_AT || rx->now - stream->log[0].at > TELL_AFTER)
            told = RX_NOTED;
    }
    event->stream = stream;
    event->number = stream->number;
    if (!header.marker)
        return told;
    stream->batch--;
    rx->begun--;
    if (join(rx, stream, event) != 0)
        return yield(stream, event);
    if (stream->timestamp != stream->measured)
        measure(stream);
    stream->packets = 0;
    stream->used = 0;
    if (is_to_be_told(rx, stream))
        event->flags |= RX_ARRIVALS;
    if (!goes_on(rx, stream, event))
        return RX_UNIT;
    if (more(rx))
        event->flags |= RX_MORE;
    return RX_PLAIN;
}

/* -- the next thing to tell -------------------------------------------------------------------- */

static void put_control(struct msghdr *header, int level, int type, const void *data,
                        size_t length)
{
    struct cmsghdr *control = CMSG_FIRSTHDR(header);

    control->cmsg_level = level;
    control->cmsg_type = type;
    control->cmsg_len = CMSG_LEN(length);
    memcpy(CMSG_DATA(control), data, length);
    header->msg_controllen = CMSG_SPACE(length);
}

/* Answer the check that is looked at, from the address of ours that it came to. */
static void answer(struct rx *rx, const uint8_t *data, uint32_t length)
{
    uint8_t *name = rx->names[rx->at];
    uint32_t named = name_length(rx, rx->at);
    struct iovec part = {(void *)data, length};
    struct msghdr header = {.msg_name = name, .msg_iov = &part, .msg_iovlen = 1};
    union {
        char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo))];
        struct cmsghdr align;
    } control = {{0}};
    sa_family_t family;

    memcpy(&family, name, sizeof family);
    header.msg_namelen = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    if (named >= header.msg_namelen + (family == AF_INET ? sizeof(struct in_addr) : OURS)) {
        const uint8_t *ours = name + header.msg_namelen;

        header.msg_control = control.bytes;
        header.msg_controllen = sizeof control.bytes;
        if (family == AF_INET) {
            struct in_pktinfo four = {0};

            memcpy(&four.ipi_spec_dst, ours, sizeof four.ipi_spec_dst);
            put_control(&header, IPPROTO_IP, IP_PKTINFO, &four, sizeof four);
        } else {
            struct in6_pktinfo six = {0};

            memcpy(&six.ipi6_addr, ours, OURS);
            put_control(&header, IPPROTO_IPV6, IPV6_PKTINFO, &six, sizeof six);
        }
    }
    if (sendmsg(rx->out, &header, MSG_DONTWAIT) < 0)
        rx->counts.unsent++;
    else
        rx->counts.sent++;
}

/* Where a checking viewer is: 4 or 16 bytes, one of IPv4 behind a socket of both told as such. */
static uint32_t host_of(const uint8_t *key, const uint8_t **host)
{
    static const uint8_t mapped[12] = {[10] = 0xFF, [11] = 0xFF};

    *host = key + 4;
    if (key[0] == 4)
        return 4;
    if (memcmp(*host, mapped, sizeof mapped) != 0)
        return 16;
    *host += sizeof mapped;
    return 4;
}

/* A datagram of a viewer; RX_IDLE when there is nothing to tell of it. */
static int viewer_said(struct rx *rx, struct rx_viewer *viewer, struct rx_event *event,
                       uint32_t received)
{
    uint8_t *data = rx->datagrams[rx->at], reply[STUN_LONGEST_ANSWER];
    int length = (int)received, told;
    uint32_t replied = 0;
    const uint8_t *host;

    if (data[0] <= 3) {
        uint32_t host_length = host_of(viewer->route.key, &host);

        told = vw_check(viewer, data, received, host, host_length, viewer->route.key + 2,
                        rx->now, reply, &replied);
        if (replied > 0)
            answer(rx, reply, replied);
    } else if (data[1] < 192 || data[1] > 223) {
        told = VW_PASS;
    } else if (within_budget(rx, &viewer->route)) {
        told = vw_hear(viewer, rx->doors.rtcp, data, &length, rx->now);
    } else {
        told = VW_DONE;
    }
    if (told == VW_PASS)
        return datagram(rx, event, received);
    rx->at++;
    if (told == VW_DONE)
        return RX_IDLE;
    event->viewer = viewer;
    event->data = data;
    event->length = (uint32_t)length;
    return RX_SAID;
}

/* Hand on what is looked at. */
static void pass(struct rx *rx, struct rx_far *far, uint32_t length)
{
    uint8_t wrapping[WRAPPING] = {0};
    uint32_t named = name_length(rx, rx->at);
    struct iovec parts[2] = {{wrapping, WRAPPING}, {rx->datagrams[rx->at], length}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};

    memcpy(wrapping, rx->names[rx->at], named);
    wrapping[NAMED] = (uint8_t)named;
    far->seen = rx->now;
    if (sendmsg(far->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        far->dropped++;
    else
        far->passed++;
}

static int next_event(struct rx *rx, struct rx_event *event)
{
    while (more(rx)) {
        uint32_t length = rx->headers[rx->at].msg_len, where;
        const uint8_t *data = rx->datagrams[rx->at];
        struct rx_route *route;
        uint8_t key[KEY];
        int told;

        event->arrival = rx->now;
        if (length < HEADER || length > LARGEST || data[0] > 191 ||
            make_key(key, rx->names[rx->at], name_length(rx, rx->at)) != 0 ||
            (route = find(rx, key, &where)) == NULL)
            return datagram(rx, event, length);
        if (route->kind == FAR) {
            if (within_budget(rx, route))
                pass(rx, (struct rx_far *)route, length);
            rx->at++;
            continue;
        }
        if ((data[0] > 3 && data[0] < 128) || (route->kind == STREAM && data[0] <= 3))
            return datagram(rx, event, length);
        if (route->kind == VIEWER) {
            told = viewer_said(rx, (struct rx_viewer *)route, event, length);
        } else {
            struct rx_stream *stream = (struct rx_stream *)route;

            if (!within_budget(rx, route)) {
                rx->at++;
                continue;
            }
            if (!stream->active || (data[1] >= 192 && data[1] <= 223))
                return datagram(rx, event, length);
            told = media(rx, stream, event, length);
        }
        if (told != RX_IDLE)
            return told;
    }
    return RX_IDLE;
}

int rx_next(struct rx *rx, struct rx_event *event)
{
    int kind = next_event(rx, event);

    if (kind != RX_IDLE && kind != RX_SAID)
        rx->quiet = 0;
    return kind;
}

int rx_wake(struct rx *rx, double now, struct rx_event *event)
{
    double turns = (now - rx->read_at) / TURN;

    rx->more = turns >= MORE ? MORE : turns > 0 ? (uint32_t)turns : 0;
    event->read = rx_read(rx, now);
    return rx_next(rx, event);
}

/* -- what Python says ------------------------------------------------------------------------- */

size_t rx_stream_size(void)
{
    return sizeof(struct rx_stream);
}

/* Whether the socket says to which of our addresses a datagram came. */
static int tells(int fd)
{
    int four = 0, six = 0;
    socklen_t length = sizeof four;

    if (getsockopt(fd, IPPROTO_IP, IP_PKTINFO, &four, &length) != 0)
        four = 0;
    length = sizeof six;
    if (getsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &six, &length) != 0)
        six = 0;
    return four || six;
}

struct rx_counts *rx_count(struct rx *rx)
{
    return &rx->counts;
}

struct rx *rx_new(int fd, struct rx_doors doors, uint64_t seed, struct rx_limits limits)
{
    struct rx *rx = calloc(1, sizeof *rx);

    if (rx == NULL)
        return NULL;
    rx->fd = rx->out = fd;
    rx->told = tells(fd) ? sizeof rx->controls[0].bytes : 0;
    rx->epoll = rx->timer = -1;
    rx->used = BATCH;
    rx->doors = doors;
    rx->seed = seed;
    rx->limits = limits;
    for (int at = 0; at < BATCH; at++) {
        struct msghdr *header = &rx->headers[at].msg_hdr;

        rx->vectors[at][0].iov_base = rx->names[at];
        rx->vectors[at][0].iov_len = WRAPPING;
        rx->vectors[at][1].iov_base = rx->datagrams[at];
        rx->vectors[at][1].iov_len = DATAGRAM;
        header->msg_iov = &rx->vectors[at][1];
        header->msg_iovlen = 1;
        header->msg_name = rx->names[at];
        header->msg_control = rx->controls[at].bytes;
    }
    return rx;
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

void rx_free(struct rx *rx)
{
    if (rx == NULL)
        return;
    rx_unwatch(rx);
    free(rx->unit);
    free(rx);
}

struct rx_stream *rx_open(struct rx *rx, void *srtp, uint8_t payload_type, uint8_t extension,
                          uint32_t number)
{
    struct rx_stream *stream = calloc(1, sizeof *stream);

    if (stream == NULL)
        return NULL;
    stream->srtp = srtp;
    stream->payload_type = payload_type;
    stream->extension = extension;
    stream->number = number;
    rx->streams++;
    stream->route.tokens = rx->limits.burst;
    stream->route.refilled = rx->now;
    return stream;
}

void rx_close(struct rx *rx, struct rx_stream *stream)
{
    unroute(rx, &stream->route);
    rx->streams--;
    free(stream->train);
    free(stream->bytes);
    free(stream);
}

/* Have an address led to ``route``, in place of whoever has it; 0, or -1. */
static int lead(struct rx *rx, struct rx_route *route, const uint8_t *address, uint32_t length)
{
    uint8_t key[KEY];
    uint32_t where;
    struct rx_route *holder;

    if (make_key(key, address, length) != 0)
        return -1;
    if (route->routed && memcmp(key, route->key, KEY) == 0)
        return 0;
    unroute(rx, route);
    holder = find(rx, key, &where);
    if (holder != NULL) {
        if (holder->kind == STREAM)
            ((struct rx_stream *)holder)->active = 0;
        unroute(rx, holder);
        find(rx, key, &where);
    }
    if (rx->routes >= MOST_ROUTES)
        return -1;
    memcpy(route->key, key, KEY);
    rx->table[where] = route;
    rx->routes++;
    route->routed = 1;
    return 0;
}

int rx_resume(struct rx *rx, struct rx_stream *stream, const uint8_t *address, uint32_t length,
              uint32_t ssrc, uint16_t next)
{
    if (lead(rx, &stream->route, address, length) != 0)
        return -1;
    stream->ssrc = ssrc;
    stream->next = next;
    stream->packets = 0;
    stream->used = 0;
    stream->plain = 0;
    stream->active = 1;
    return 0;
}

struct rx_viewer *rx_admit(struct rx *rx, void *srtp, uint32_t number)
{
    struct rx_viewer *viewer = calloc(1, sizeof *viewer);

    if (viewer == NULL)
        return NULL;
    viewer->srtp = srtp;
    viewer->number = number;
    viewer->route.kind = VIEWER;
    viewer->route.tokens = rx->limits.burst;
    viewer->route.refilled = rx->now;
    return viewer;
}

void rx_dismiss(struct rx *rx, struct rx_viewer *viewer)
{
    unroute(rx, &viewer->route);
    free(viewer);
}

int rx_hear(struct rx *rx, struct rx_viewer *viewer, const uint8_t *address, uint32_t length)
{
    return lead(rx, &viewer->route, address, length);
}

int rx_agree(struct rx_viewer *viewer, const uint8_t *name, uint32_t name_length,
             const uint8_t *ours, uint32_t ours_length, const uint8_t *theirs,
             uint32_t theirs_length)
{
    if (name_length > sizeof viewer->name)
        return -1;
    memcpy(viewer->name, name, name_length);
    viewer->name_length = name_length;
    stun_make_key(&viewer->ours, ours, ours_length);
    stun_make_key(&viewer->theirs, theirs, theirs_length);
    viewer->asked = 0;
    return 0;
}

void rx_pause(struct rx_stream *stream)
{
    stream->active = 0;
}

void rx_clear(struct rx_stream *stream)
{
    stream->packets = 0;
    stream->used = 0;
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

void rx_forget(struct rx *rx, const uint8_t *address, uint32_t length)
{
    uint8_t key[KEY];
    uint32_t where;
    struct rx_route *route;

    if (make_key(key, address, length) == 0 && (route = find(rx, key, &where)) != NULL)
        unroute(rx, route);
}
