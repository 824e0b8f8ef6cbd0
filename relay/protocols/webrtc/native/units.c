/*
 * Trains to access units: payloads (RFC 6184) to Annex B, as h264_payload.py has it. What is not
 * the common case is left to Python, which takes the whole train.
 */

#define _GNU_SOURCE
#include "units.h"

#include <stdlib.h>

#define MOST_UNITS 64          /* NAL units of an aggregate, as h264_payload.py has it */
#define LONGEST_STEP 5.0       /* seconds; a longer one is a jump of the sender's clock */

int widen(struct rx_stream *stream, uint32_t length)
{
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
    return 0;
}

struct joined {
    uint8_t *at;
    uint32_t flags;
};

static void note_nal(struct joined *out, uint8_t kind, uint8_t following)
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
    note_nal(out, kind, length > 1 ? nal[1] : 0);
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
            note_nal(out, flags & 0x1F, payload[2]);
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

int join(struct rx *rx, struct rx_stream *stream, struct rx_event *event)
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

void note_step(struct rx_jitter *jitter, uint32_t timestamp, double now, double clock)
{
    int32_t ticks = (int32_t)(timestamp - jitter->timestamp);
    double apart = (now - jitter->at) * clock - ticks;

    if (apart < 0)
        apart = -apart;
    if (apart < LONGEST_STEP * clock)
        jitter->ticks += (apart - jitter->ticks) / 16;
    jitter->timestamp = timestamp;
    jitter->at = now;
}
