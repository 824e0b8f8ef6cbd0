/*
 * A train: the packets of one picture, opened, in order; and the access unit that it makes. What is
 * done for each packet stands here, what is done for each picture in units.c.
 *
 * These are bytes of strangers, a header before SRTP has opened the packet as well. Each read is
 * held to the length of what was received.
 */
#ifndef RELAY_UNITS_H
#define RELAY_UNITS_H

#include "bytes.h"
#include "receiver.h"

#include <string.h>

#define RTP_HEADER 12
#define ONE_BYTE 0xBEDE

struct header {
    uint32_t timestamp;
    uint32_t payload;           /* where it starts */
    int32_t transport;          /* -1: none */
    uint16_t sequence;
    uint8_t marker;
};

/* The common form: version 2, no padding, no CSRC, at most an extension of one-byte elements.
 * 0, or -1 for any other. */
static inline int read_header(struct header *out, const uint8_t *data, uint32_t length,
                              uint8_t extension)
{
    if (length < RTP_HEADER || (data[0] & 0xEF) != 0x80)
        return -1;
    out->marker = data[1] >> 7;
    out->sequence = (uint16_t)get16(data + 2);
    out->timestamp = get32(data + 4);
    out->payload = RTP_HEADER;
    out->transport = -1;
    if (data[0] & 0x10) {
        uint32_t at = RTP_HEADER + 4, end;

        if (length < at || get16(data + RTP_HEADER) != ONE_BYTE)
            return -1;
        end = at + 4u * get16(data + RTP_HEADER + 2);
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
                    out->transport = (int32_t)get16(data + at + 1);
                break;
            }
            at += 1 + size;
        }
    }
    return out->payload < length ? 0 : -1;
}

#pragma GCC visibility push(hidden)

/* Room for one packet more, of ``length`` bytes. 0, or -1: no memory. */
int widen(struct rx_stream *stream, uint32_t length);

/* The whole train as an access unit. 0, or -1 when it is not the common case. */
int join(struct rx *rx, struct rx_stream *stream, struct rx_event *event);

/* Jitter, as reception.py has it: the first packet of another timestamp came. */
void note_step(struct rx_jitter *jitter, uint32_t timestamp, double now, double clock);

#pragma GCC visibility pop

/* 0, or -1: no memory. */
static inline int append(struct rx_stream *stream, const uint8_t *data, uint32_t length, double now)
{
    struct rx_packet *packet;

    if ((stream->packets == stream->packet_room || stream->used + length > stream->room) &&
        widen(stream, length) != 0)
        return -1;
    packet = &stream->train[stream->packets++];
    packet->arrival = now;
    packet->start = stream->used;
    packet->length = length;
    memcpy(stream->bytes + stream->used, data, length);
    stream->used += length;
    return 0;
}

#endif
