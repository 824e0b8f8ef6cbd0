/*
 * Pictures and sound to MPEG-TS packets and back: the common case of mpegts.py, which says what
 * each field is for. What is read are bytes of strangers; each read is held to the length of what came.
 */

#include "transport.h"

#include <stdlib.h>
#include <string.h>

#define PACKET 188u
#define BODY 184u
#define SYNC 0x47
#define CLOCK_MASK ((1ull << 33) - 1)
#define PCR_LEAD 9000
#define LONGEST 0xFFFFu         /* bytes of a PES behind its length */
#define MOST_NALS 8192u
#define PICTURES 0xE0           /* stream_id: video 0, private stream 1 */
#define SOUND 0xBD
#define MOST_SAMPLES 5760u      /* 120 ms of Opus */

static const uint8_t code[4] = {0, 0, 0, 1};

/* 0, or -1: no memory. */
static int make_room(uint8_t **bytes, uint32_t *room, uint32_t needed)
{
    uint8_t *larger;

    if (needed <= *room)
        return 0;
    larger = realloc(*bytes, needed + needed / 2);
    if (larger == NULL)
        return -1;
    *bytes = larger;
    *room = needed + needed / 2;
    return 0;
}

/* -- out ------------------------------------------------------------------------------------ */

static uint8_t *put_header(struct ts_writer *writer, uint8_t *out, uint8_t begins, uint8_t field)
{
    out[0] = SYNC;
    out[1] = (uint8_t)((begins ? 0x40 : 0) | writer->pid >> 8);
    out[2] = (uint8_t)writer->pid;
    out[3] = (uint8_t)(0x10 | field | writer->counter);
    writer->counter = (writer->counter + 1) & 15;
    return out + 4;
}

/* The adaptation field of the first packet, ``spare`` bytes longer than its PCR. */
static uint8_t *put_clock(struct ts_writer *writer, uint8_t *out, int64_t pts, int random_access,
                          uint32_t spare)
{
    int64_t pcr = pts - PCR_LEAD;
    uint64_t base;

    if (pcr < writer->pcr && writer->pcr < pts)
        pcr = writer->pcr; /* an earlier PTS of a B-frame: the clock does not go back */
    writer->pcr = pcr;
    base = ((uint64_t)pcr & CLOCK_MASK) << 15 | 0x7E00;
    out[0] = (uint8_t)(7 + spare);
    out[1] = random_access ? 0x50 : 0x10;
    for (int at = 0; at < 6; at++)
        out[2 + at] = (uint8_t)(base >> (40 - 8 * at));
    memset(out + 8, 0xFF, spare);
    return out + 8 + spare;
}

/* The PES header for ``size`` bytes of data, ``room`` what the first packet has for both: its own
 * bytes, at most 15. */
static uint32_t put_pes(uint8_t *out, uint8_t stream_id, int64_t time, uint32_t size, uint32_t room)
{
    uint64_t pts = (uint64_t)time & CLOCK_MASK;
    uint32_t length = size + 8, stuffing = 0;

    if (length > LONGEST) {
        length = 0;
        stuffing = (size + 14 - room) % BODY == 0;
    }
    out[0] = out[1] = 0;
    out[2] = 1;
    out[3] = stream_id;
    out[4] = (uint8_t)(length >> 8);
    out[5] = (uint8_t)length;
    out[6] = 0x84;
    out[7] = 0x80;
    out[8] = (uint8_t)(5 + stuffing);
    out[9] = (uint8_t)(0x21 | (pts >> 29 & 0x0E));
    out[10] = (uint8_t)(pts >> 22);
    out[11] = (uint8_t)((pts >> 14 & 0xFE) | 1);
    out[12] = (uint8_t)(pts >> 7);
    out[13] = (uint8_t)((pts << 1 & 0xFE) | 1);
    out[14] = 0xFF;
    return 14 + stuffing;
}

/* What is left of a PES in packets without a PCR, the last one made full. */
static uint8_t *put_rest(struct ts_writer *writer, uint8_t *out, uint8_t begins,
                         const uint8_t *pes, uint32_t left)
{
    for (; left >= BODY; left -= BODY, pes += BODY, begins = 0) {
        out = put_header(writer, out, begins, 0);
        memcpy(out, pes, BODY);
        out += BODY;
    }
    if (left > 0) {
        uint32_t spare = BODY - left;

        out = put_header(writer, out, begins, 0x20);
        *out++ = (uint8_t)(spare - 1);
        if (spare > 1) {
            *out++ = 0;
            memset(out, 0xFF, spare - 2);
            out += spare - 2;
        }
        memcpy(out, pes, left);
        out += left;
    }
    return out;
}

uint32_t ts_write(struct ts_writer *writer, const uint8_t *picture, uint32_t size, int64_t pts,
                  int random_access)
{
    static const uint8_t delimiter[6] = {0, 0, 0, 1, 9, 0xF0};
    const uint32_t room = BODY - 8;
    uint8_t front[15 + sizeof delimiter], *out;
    uint32_t before, total, piece;

    if (size > UINT32_MAX / 2 ||
        make_room(&writer->out, &writer->room, (size / BODY + 3) * PACKET) != 0)
        return 0;
    before = put_pes(front, PICTURES, pts, size + (uint32_t)sizeof delimiter, room);
    memcpy(front + before, delimiter, sizeof delimiter);
    before += (uint32_t)sizeof delimiter;
    total = before + size;
    out = put_header(writer, writer->out, 1, 0x20);
    out = put_clock(writer, out, pts, random_access, total < room ? room - total : 0);
    memcpy(out, front, before);
    out += before;
    piece = (total < room ? total : room) - before;
    memcpy(out, picture, piece);
    out = put_rest(writer, out + piece, 0, picture + piece, size - piece);
    return (uint32_t)(out - writer->out);
}

uint32_t ts_write_sound(struct ts_writer *writer, const uint8_t *packet, uint32_t size,
                        int64_t pts)
{
    uint32_t full = size / 255, data = 2 + full + 1 + size, packets, before;
    uint8_t *pes, *out;

    if (size > UINT32_MAX / 8)
        return 0;
    packets = ((data + 15) / BODY + 1) * PACKET;
    if (make_room(&writer->out, &writer->room, packets + 15 + data) != 0)
        return 0;
    pes = writer->out + packets; /* put together behind the packets that it is cut into */
    before = put_pes(pes, SOUND, pts, data, BODY);
    out = pes + before;
    *out++ = 0x7F;
    *out++ = 0xE0;
    memset(out, 0xFF, full);
    out += full;
    *out++ = (uint8_t)(size % 255);
    memcpy(out, packet, size);
    out = put_rest(writer, writer->out, 1, pes, before + data);
    return (uint32_t)(out - writer->out);
}

/* -- in ------------------------------------------------------------------------------------- */

/* Where the payload of a packet starts; PACKET when there is none to be read. */
static uint32_t payload_at(const uint8_t *packet, uint16_t pid)
{
    if (packet[0] != SYNC || (packet[1] & 0x80) || ((packet[1] & 0x1F) << 8 | packet[2]) != pid ||
        (packet[3] & 0xD0) != 0x10)
        return PACKET;
    if (!(packet[3] & 0x20))
        return 4;
    return packet[4] >= BODY - 1 ? PACKET : 5u + packet[4];
}

/* The data of the PES at ``data`` in ``reader->pes``: its bytes, or 0. */
static uint32_t collect(struct ts_reader *reader, const uint8_t *data, uint32_t size, uint16_t pid,
                        int counter, uint32_t most)
{
    uint32_t start, header, want, have = 0;
    const uint8_t *pes;

    if (size < PACKET || !(data[1] & 0x40) || (start = payload_at(data, pid)) + 9 > PACKET ||
        (counter >= 0 && ((data[3] - counter) & 15) != 1))
        return 0;
    pes = data + start;
    header = 9u + pes[8];
    want = (uint32_t)(pes[4] << 8 | pes[5]);
    if (pes[0] != 0 || pes[1] != 0 || pes[2] != 1 || (pes[6] & 0xC0) != 0x80 ||
        !(pes[7] & 0x80) || pes[8] < 5 || start + header > PACKET || want <= header - 6)
        return 0;
    want -= header - 6;
    reader->pts = (uint64_t)(pes[9] & 0x0E) << 29 | (uint64_t)pes[10] << 22 |
                  (uint64_t)(pes[11] & 0xFE) << 14 | (uint64_t)pes[12] << 7 | pes[13] >> 1;
    if (make_room(&reader->pes, &reader->pes_room, want + PACKET) != 0)
        return 0;
    start += header;
    reader->counter = data[3] & 15;
    for (uint32_t at = 0;;) {
        memcpy(reader->pes + have, data + at + start, PACKET - start);
        have += PACKET - start;
        at += PACKET;
        if (have >= want) {
            reader->taken = at;
            return have > most ? 0 : want;
        }
        if (at + PACKET > size || (data[at + 1] & 0x40) ||
            ((data[at + 3] - reader->counter) & 15) != 1 ||
            (start = payload_at(data + at, pid)) == PACKET)
            return 0;
        reader->counter = data[at + 3] & 15;
    }
}

/* Where the next start code of three bytes is, or ``end``. */
static const uint8_t *next_code(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *from = at;

    while (end - from > 2) {
        const uint8_t *one = memchr(from + 2, 1, (size_t)(end - from - 2));

        if (one == NULL)
            return end;
        if (one[-1] == 0 && one[-2] == 0)
            return one - 2;
        from = one - 1;
    }
    return end;
}

/* The NAL units in ``reader->pes`` behind 4-byte start codes in ``reader->out``, without
 * delimiters: bytes, or 0. */
static uint32_t unpack(struct ts_reader *reader, uint32_t size)
{
    const uint8_t *end = reader->pes + size, *nal = next_code(reader->pes, end);
    uint8_t *out;

    /* A NAL unit of a byte and its start code of three become one byte more. */
    if (make_room(&reader->out, &reader->out_room, size + size / 4 + 4) != 0)
        return 0;
    out = reader->out;
    reader->keyframe = 0;
    for (uint32_t count = 0; nal != end; count++) {
        const uint8_t *next, *last;

        nal += 3;
        last = next = next_code(nal, end);
        while (last > nal && last[-1] == 0)
            last--;
        if (count == MOST_NALS)
            return 0;
        if (last > nal && (nal[0] & 0x1F) != 9) {
            reader->keyframe |= (nal[0] & 0x1F) == 5;
            memcpy(out, code, sizeof code);
            memcpy(out + sizeof code, nal, (size_t)(last - nal));
            out += sizeof code + (size_t)(last - nal);
        }
        nal = next;
    }
    return (uint32_t)(out - reader->out);
}

/* Whether opus_duration of audio.py takes it. */
static int is_opus(const uint8_t *packet, uint32_t size)
{
    uint32_t config, frames, samples;

    if (size == 0 || ((packet[0] & 3) == 3 && size < 2))
        return 0;
    config = packet[0] >> 3;
    frames = (packet[0] & 3) == 3 ? packet[1] & 0x3F : (packet[0] & 3) == 0 ? 1 : 2;
    if (config < 12)
        samples = (config & 3) == 3 ? 2880 : 480u << (config & 3);
    else if (config < 16)
        samples = 480u << (config & 1);
    else
        samples = 120u << (config & 3);
    return frames > 0 && frames * samples <= MOST_SAMPLES;
}

/* The one Opus packet in ``reader->pes``, behind a control header with neither trims nor an
 * extension, in ``reader->out``: bytes, or 0. */
static uint32_t unpack_sound(struct ts_reader *reader, uint32_t size)
{
    const uint8_t *pes = reader->pes;
    uint32_t at = 2, length = 0;

    if (size < 3 || pes[0] != 0x7F || pes[1] != 0xE0)
        return 0;
    for (; at < size && pes[at] == 0xFF; at++)
        length += 255;
    if (at == size)
        return 0;
    length += pes[at++];
    if (length != size - at || !is_opus(pes + at, length) ||
        make_room(&reader->out, &reader->out_room, length) != 0)
        return 0;
    memcpy(reader->out, pes + at, length);
    reader->keyframe = 0;
    return length;
}

uint32_t ts_read(struct ts_reader *reader, const uint8_t *data, uint32_t size, uint32_t at,
                 uint16_t pid, int counter, uint32_t most)
{
    uint32_t found;

    if (at > size || (found = collect(reader, data + at, size - at, pid, counter, most)) == 0)
        return 0;
    return unpack(reader, found);
}

uint32_t ts_read_sound(struct ts_reader *reader, const uint8_t *data, uint32_t size, uint32_t at,
                       uint16_t pid, int counter, uint32_t most)
{
    uint32_t found;

    if (at > size || (found = collect(reader, data + at, size - at, pid, counter, most)) == 0)
        return 0;
    return unpack_sound(reader, found);
}

/* -- life ----------------------------------------------------------------------------------- */

struct ts_writer *ts_writer_new(uint16_t pid)
{
    struct ts_writer *writer = calloc(1, sizeof *writer);

    if (writer != NULL)
        writer->pid = pid;
    return writer;
}

void ts_writer_free(struct ts_writer *writer)
{
    if (writer != NULL)
        free(writer->out);
    free(writer);
}

uint32_t ts_writer_size(void)
{
    return sizeof(struct ts_writer);
}

struct ts_reader *ts_reader_new(void)
{
    return calloc(1, sizeof(struct ts_reader));
}

void ts_reader_free(struct ts_reader *reader)
{
    if (reader != NULL) {
        free(reader->pes);
        free(reader->out);
    }
    free(reader);
}

uint32_t ts_reader_size(void)
{
    return sizeof(struct ts_reader);
}
