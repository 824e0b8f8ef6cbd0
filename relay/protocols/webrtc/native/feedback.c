/*
 * Reads transport-wide feedback as far as it shows whether all is well.
 *
 * What is read here has passed SRTCP: it is the viewer's own word. It is no more believed than
 * that; each read is held to the length of what was received.
 */

#include "feedback.h"

#include "bytes.h"

#define HEADER 20
#define MOST_STATUSES 4096      /* of one feedback: what more tell goes to Python */
#define TICK 250e-6
#define REFERENCE 0.064

enum { MISSING, SMALL, LARGE }; /* symbols of a status: the bytes of its time */

struct reader {
    const uint8_t *data;
    uint32_t length;
    uint32_t chunk;             /* where the next chunk is */
    uint32_t time;              /* where the next time is */
    uint32_t seen;              /* statuses */
    int64_t ticks;
    struct feedback *out;
};

/* A chunk of ``count`` statuses in all: how many it has, 0 when it has none. */
static uint32_t size_of(uint32_t chunk, uint32_t count)
{
    uint32_t most = chunk < 0x8000 ? chunk & 0x1FFF : chunk < 0xC000 ? 14 : 7;

    return most < count ? most : count;
}

static uint32_t symbol_of(uint32_t chunk, uint32_t index)
{
    if (chunk < 0x8000)
        return chunk >> 13;
    if (chunk < 0xC000)
        return chunk >> (13 - index) & 1;
    return chunk >> (12 - 2 * index) & 3;
}

/* 0, or -1: the times end before it. */
static int take(struct reader *reader, uint32_t symbol)
{
    reader->seen++;
    if (symbol == MISSING)
        return 0;
    if (symbol > LARGE || reader->time + symbol > reader->length)
        return -1;
    reader->ticks += symbol == SMALL ? reader->data[reader->time]
                                     : (int16_t)get16(reader->data + reader->time);
    reader->time += symbol;
    reader->out->received++;
    reader->out->told = reader->seen;
    return 0;
}

int feedback_read(struct feedback *out, const uint8_t *data, uint32_t length)
{
    struct reader reader = {.data = data, .length = length, .chunk = HEADER, .out = out};
    uint32_t statuses, reference, at = HEADER;

    out->told = out->received = 0;
    if (length < HEADER || (data[0] & 0x20) || get16(data + 2) * 4 + 4 != length)
        return -1;
    statuses = get16(data + 14);
    reference = get16(data + 16) << 8 | data[18];
    if (statuses > MOST_STATUSES)
        return -1;
    for (uint32_t left = statuses; left > 0;) { /* the times stand behind all chunks */
        uint32_t size;

        if (at + 2 > length || (size = size_of(get16(data + at), left)) == 0)
            return -1;
        left -= size;
        at += 2;
    }
    reader.time = at;
    for (; reader.chunk < at; reader.chunk += 2) {
        uint32_t chunk = get16(data + reader.chunk);
        uint32_t size = size_of(chunk, statuses - reader.seen);

        for (uint32_t index = 0; index < size; index++)
            if (take(&reader, symbol_of(chunk, index)) != 0)
                return -1;
    }
    if (out->received == 0)
        return -1;
    out->newest = (uint16_t)(get16(data + 12) + out->told - 1);
    out->arrived = reference * REFERENCE + (double)reader.ticks * TICK;
    return 0;
}
