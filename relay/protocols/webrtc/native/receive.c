/*
 * The common case of receiving: publishers' media in order, from datagrams to access units.
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
#include "receiver.h"

#include "budget.h"
#include "bytes.h"
#include "consent.h"
#include "far.h"
#include "names.h"
#include "publishers.h"
#include "routes.h"
#include "sound.h"
#include "strangers.h"
#include "units.h"
#include "viewers.h"
#include "waiting.h"

#include <stdlib.h>
#include <string.h>

#define LARGEST 1500           /* bytes of a media packet */
#define TRAIN_PACKETS 2048
#define TRAIN_BYTES (1u << 20)
#define SENDER_REPORT 200
#define PICTURE_CLOCK 90000.0
#define SLOW 0.05              /* seconds between two pictures: what has come is told with each */
#define MAX_JUMP 900000u       /* ticks; a longer step is another clock, as timeline.py has it */
#define TURN 0.002             /* seconds of other work for which one batch more is read */
#define MORE 7                 /* such batches at most: then the others have their turn */

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

void rx_free(struct rx *rx)
{
    if (rx == NULL)
        return;
    rx_unwatch(rx);
    free(rx->unit);
    free(rx);
}

struct rx_counts *rx_count(struct rx *rx)
{
    return &rx->counts;
}

/* -- what was read --------------------------------------------------------------------------- */

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

/* Whether a key frame brings what it needs, and nothing that is not known. */
static int is_known(const struct rx_stream *stream, const struct rx_event *event)
{
    return stream->head_length > 0 && event->length > stream->head_length &&
           memcmp(event->data, stream->head, stream->head_length) == 0 &&
           (event->data[stream->head_length] & stream->mask) == stream->value;
}

/* Whether a picture is one of most: it follows one that is shown, in time, and is no key frame,
 * or begins like the one before. */
static int goes_on(const struct rx *rx, struct rx_stream *stream, struct rx_event *event)
{
    uint32_t step = stream->timestamp - stream->shown;
    int keyframe = (event->flags & RX_KEYFRAME) != 0;

    if (!stream->plain || !(event->flags & RX_PICTURE) || step > MAX_JUMP ||
        (keyframe ? !is_known(stream, event) : (event->flags & RX_PARAMETERS) != 0) ||
        !spend(&stream->unit_tokens, &stream->units_filled_at, rx->now, rx->limits.units,
              rx->limits.units))
        return 0;
    stream->shown = stream->timestamp;
    stream->shown_at = rx->now;
    if (keyframe)
        stream->keyframe_at = rx->now;
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

/* Sound, a retransmission: another order than the picture's. */
static int beside(struct rx *rx, struct rx_stream *stream, struct rx_event *event,
                  uint32_t received)
{
    int told = take_sound(rx, stream, event, received);

    if (told < 0)
        return datagram(rx, event, received);
    if (told == RX_PLAIN && more(rx))
        event->flags |= RX_MORE;
    return told;
}

/* A packet of an active stream; RX_IDLE when there is nothing to tell of it. */
static int media(struct rx *rx, struct rx_stream *stream, struct rx_event *event,
                 uint32_t received)
{
    uint8_t *data = rx->datagrams[rx->at];
    int length = (int)received, told;
    struct header header;

    if ((data[1] & 0x7F) != stream->payload_type || get32(data + 8) != stream->ssrc)
        return beside(rx, stream, event, received);
    if (read_header(&header, data, received, stream->extension) != 0 ||
        header.sequence != stream->next ||
        (stream->packets > 0 && header.timestamp != stream->timestamp) ||
        stream->packets == TRAIN_PACKETS || stream->used + received > TRAIN_BYTES) {
        stream->route.tokens += 1; /* this one is looked at again, as it came */
        return yield(stream, event);
    }
    rx->at++;
    if (rx->doors.rtp(stream->srtp, data, &length) != 0 || length < RTP_HEADER ||
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
    told = note_arrival(rx, stream, header.transport);
    event->stream = stream;
    event->number = stream->number;
    if (!header.marker)
        return told;
    stream->batch--;
    rx->begun--;
    if (join(rx, stream, event) != 0)
        return yield(stream, event);
    if (stream->timestamp != stream->jitter.timestamp)
        note_step(&stream->jitter, stream->timestamp, stream->train[0].arrival, PICTURE_CLOCK);
    stream->packets = 0;
    stream->used = 0;
    if (stream->reporting.due > 0 && rx->now >= stream->reporting.due)
        attend(rx, stream);
    if (is_to_be_told(rx, stream) && !tell_arrivals(rx, stream))
        event->flags |= RX_ARRIVALS;
    if (!goes_on(rx, stream, event)) {
        stream->plain = 0; /* until Python has judged it */
        return RX_UNIT;
    }
    if (more(rx))
        event->flags |= RX_MORE;
    return RX_PLAIN;
}

/* -- the next thing to tell -------------------------------------------------------------------- */

static struct rx_consent *consent_of(struct rx_route *route)
{
    return route->kind == STREAM ? &((struct rx_stream *)route)->consent
                                 : &((struct rx_viewer *)route)->consent;
}

/* A check, or an answer to one of ours; RX_IDLE when there is nothing to tell of it. */
static int stun(struct rx *rx, const struct rx_route *route, struct rx_consent *consent,
                struct rx_event *event, uint32_t received)
{
    uint8_t reply[STUN_LONGEST_ANSWER];
    uint32_t replied = 0;
    const uint8_t *host;
    uint32_t host_length = host_of(route->key, &host);

    if (consent_check(consent, rx->datagrams[rx->at], received, host, host_length,
                      route->key + 2, rx->now, reply, &replied) == CONSENT_PASS)
        return datagram(rx, event, received);
    if (replied > 0)
        send_to(rx, rx->names[rx->at], name_length(rx, rx->at), reply, replied);
    rx->at++;
    return RX_IDLE;
}

/* RTCP of a viewer, or what else is no STUN, likewise. */
static int viewer_said(struct rx *rx, struct rx_viewer *viewer, struct rx_event *event,
                       uint32_t received)
{
    uint8_t *data = rx->datagrams[rx->at];
    int length = (int)received, told;

    if (data[1] < 192 || data[1] > 223)
        told = VW_PASS;
    else if (within_budget(rx, &viewer->route))
        told = vw_hear(viewer, rx->doors.rtcp, data, &length, rx->now);
    else
        told = VW_DONE;
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

static int next_event(struct rx *rx, struct rx_event *event)
{
    while (more(rx)) {
        uint32_t length = rx->headers[rx->at].msg_len, where;
        const uint8_t *data = rx->datagrams[rx->at];
        struct rx_route *route;
        uint8_t key[KEY];
        int told;

        event->arrival = rx->now;
        if (make_key(key, rx->names[rx->at], name_length(rx, rx->at)) != 0)
            return datagram(rx, event, length);
        route = find(rx, key, &where);
        if (route == NULL && is_for_nobody(rx, key, data, length)) {
            rx->at++;
            continue;
        }
        if (route == NULL || length < RTP_HEADER || length > LARGEST || data[0] > 191)
            return datagram(rx, event, length);
        if (route->kind == FAR) {
            if (within_budget(rx, route))
                pass(rx, (struct rx_far *)route, length);
            rx->at++;
            continue;
        }
        if (data[0] > 3 && data[0] < 128)
            return datagram(rx, event, length);
        if (data[0] <= 3) {
            told = stun(rx, route, consent_of(route), event, length);
        } else if (route->kind == VIEWER) {
            told = viewer_said(rx, (struct rx_viewer *)route, event, length);
        } else {
            struct rx_stream *stream = (struct rx_stream *)route;

            if (!is_looked_at(rx, stream, data)) {
                rx->at++;
                continue;
            }
            if (stream->active && data[1] == SENDER_REPORT &&
                rx->now < stream->look_at[get32(data + 4) != stream->ssrc]) {
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
