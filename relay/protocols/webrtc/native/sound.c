/*
 * The common case of sound: packets in order, each of them one of Opus, laid on the publisher's line
 * as timeline.py does it. Whatever else comes goes to Python, as receive.c has it.
 */

#define _GNU_SOURCE
#include "sound.h"

#include "budget.h"
#include "publishers.h"
#include "units.h"

#define SOUND_CLOCK 48000.0
#define SOUND_JUMP 480000u     /* ticks; a longer step is another clock, as timeline.py has it */

/* The place of the last packet on the line, 90 kHz. */
static int64_t placed(const struct rx_sound *from)
{
    return (from->ticks * 15 >> 3) + from->offset;
}

static int is_next(const struct rx_sound *from, const struct header *header, const uint8_t *data)
{
    return from->flows && (data[1] & 0x7F) == from->payload_type && get32(data + 8) == from->ssrc &&
           header->sequence == from->next && header->timestamp - from->timestamp <= SOUND_JUMP;
}

int take_sound(struct rx *rx, struct rx_stream *stream, struct rx_event *event,
               uint32_t received)
{
    struct rx_sound *from = &stream->sound;
    uint8_t *data = rx->datagrams[rx->at];
    int length = (int)received, noted;
    struct header header;
    uint32_t size;

    if (read_header(&header, data, received, stream->extension) != 0 ||
        !is_next(from, &header, data))
        return -1;
    rx->at++;
    if (rx->doors.rtp(stream->srtp, data, &length) != 0 || length < (int)header.payload ||
        length > (int)received) {
        stream->refused++;
        return RX_IDLE;
    }
    size = (uint32_t)length - header.payload;
    stream->heard = from->heard = rx->now;
    from->next++;
    from->ticks += header.timestamp - from->timestamp;
    from->timestamp = header.timestamp;
    from->packets++;
    from->octets += size;
    if (from->timestamp != from->jitter.timestamp)
        note_step(&from->jitter, from->timestamp, rx->now, SOUND_CLOCK);
    noted = note_arrival(rx, stream, header.transport);
    if (stream->reporting.due > 0 && rx->now >= stream->reporting.due)
        attend(rx, stream);
    event->stream = stream;
    event->number = stream->number;
    if (size == 0 || !spend(&from->tokens, &from->filled_at, rx->now, rx->limits.units,
                            rx->limits.units))
        return noted;
    memcpy(rx->sound, data + header.payload, size); /* the next batch is read over the datagram */
    event->data = rx->sound;
    event->length = size;
    event->pts = placed(from);
    event->flags = RX_SOUND | (noted == RX_NOTED ? RX_ARRIVALS : 0);
    return RX_PLAIN;
}
