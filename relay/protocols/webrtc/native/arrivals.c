/*
 * Transport-wide feedback to a publisher whose packets came in order, without a hole
 * (draft-holmer-rmcat-transport-wide-cc-01); congestion.py writes all other.
 */

#include "receive.h"

#include "bytes.h"

#include <string.h>

#define TICK 250e-6            /* seconds */
#define TICKS_OF_REFERENCE 256
#define HEAD 20
#define SMALL 1                /* a packet that came: its time takes one byte */
#define LARGE 2                /* two */

/* The statuses as one run, or as vectors of seven; where they end. */
static uint32_t put_chunks(uint8_t *out, uint32_t at, const uint8_t *symbols, uint32_t count)
{
    if (memchr(symbols, LARGE, count) == NULL) {
        put16(out + at, SMALL << 13 | count);
        return at + 2;
    }
    for (uint32_t first = 0; first < count; first += 7, at += 2) {
        uint32_t chunk = 0xC000;

        for (uint32_t n = 0; n < 7 && first + n < count; n++)
            chunk |= (uint32_t)symbols[first + n] << (12 - 2 * n);
        put16(out + at, chunk);
    }
    return at;
}

uint32_t rx_feedback(struct rx_stream *stream, uint32_t sender, uint8_t *out)
{
    uint8_t symbols[RX_LOG], times[2 * RX_LOG];
    uint32_t count = stream->arrivals, used = 0, at;
    int64_t reference = 0, before = 0;

    if (count == 0 || count > RX_LOG || !stream->tells)
        return 0;
    for (uint32_t n = 0; n < count; n++) {
        const struct rx_arrival *arrival = &stream->log[n];
        int64_t ticks = (int64_t)(arrival->at / TICK), delta;

        if (arrival->sequence != (uint16_t)(stream->untold + n))
            return 0;
        if (n == 0) {
            reference = ticks / TICKS_OF_REFERENCE;
            before = reference * TICKS_OF_REFERENCE;
        }
        delta = ticks - before;
        before = ticks;
        if (delta < 0 || delta > INT16_MAX)
            return 0;
        symbols[n] = delta > UINT8_MAX ? LARGE : SMALL;
        if (symbols[n] == LARGE)
            times[used++] = (uint8_t)(delta >> 8);
        times[used++] = (uint8_t)delta;
    }
    at = put_chunks(out, HEAD, symbols, count);
    memcpy(out + at, times, used);
    for (at += used; at % 4 != 0; at++)
        out[at] = 0;
    out[0] = 0x80 | 15; /* RFC 4585 section 6.1: RTPFB, format 15 */
    out[1] = 205;
    put16(out + 2, at / 4 - 1);
    put32(out + 4, sender);
    put32(out + 8, stream->ssrc);
    put16(out + 12, stream->untold);
    put16(out + 14, count);
    put32(out + 16, (uint32_t)(reference & 0xFFFFFF) << 8 | stream->feedbacks);
    stream->feedbacks++;
    stream->untold = (uint16_t)(stream->untold + count);
    stream->arrivals = 0;
    return at;
}
