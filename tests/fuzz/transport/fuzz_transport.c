/*
 * Coverage-guided fuzzing (libFuzzer) of media/native/transport.c: what is read is the input,
 * and what was found of it is written and read again.
 *
 * ``make fuzz`` builds it so. With REPLAY it is a program of its own for any compiler, which
 * runs the files that it is given, each as it is and changed at random some hundred times.
 */

#include "../../../relay/media/native/transport.c"

#define PID 256

static void check(int condition)
{
    if (!condition)
        __builtin_trap();
}

/* A picture that was found has nothing in it that is not taken as it is. */
static void there_and_back(struct ts_reader *reader, uint32_t size, uint64_t pts)
{
    struct ts_writer *writer = ts_writer_new(PID);
    struct ts_reader *again = ts_reader_new();
    uint32_t packed, found;

    check(writer != NULL && again != NULL);
    packed = ts_write(writer, reader->out, size, (int64_t)pts, reader->keyframe);
    check(packed > 0 && packed % PACKET == 0 && packed <= writer->room);
    found = ts_read(again, writer->out, packed, 0, PID, -1, 1u << 22);
    if (size + 14 <= LONGEST) {
        check(found == size && memcmp(again->out, reader->out, size) == 0);
        check(again->pts == pts && again->keyframe == reader->keyframe);
        check(again->taken == packed && again->counter == (packed / PACKET - 1) % 16);
    } else {
        check(found == 0);
    }
    ts_writer_free(writer);
    ts_reader_free(again);
}

/* Any bytes can be written as sound; what is read again is the same, and Opus. */
static uint32_t sound_there_and_back(const uint8_t *packet, uint32_t size, uint64_t pts)
{
    struct ts_writer *writer = ts_writer_new(PID);
    struct ts_reader *again = ts_reader_new();
    uint32_t packed, found;

    check(writer != NULL && again != NULL);
    packed = ts_write_sound(writer, packet, size, (int64_t)pts);
    check(packed > 0 && packed % PACKET == 0 && packed <= writer->room);
    found = ts_read_sound(again, writer->out, packed, 0, PID, -1, 1u << 22);
    check(found == (is_opus(packet, size) ? size : 0));
    check(found == 0 || memcmp(again->out, packet, size) == 0);
    if (found != 0) {
        check(again->pts == pts && again->keyframe == 0);
        check(again->taken == packed && again->counter == (packed / PACKET - 1) % 16);
    }
    ts_writer_free(writer);
    ts_reader_free(again);
    return found;
}

typedef uint32_t look(struct ts_reader *reader, const uint8_t *data, uint32_t size, uint32_t at,
                      uint16_t pid, int counter, uint32_t most);

static void read_all(look *one, const uint8_t *data, uint32_t size)
{
    struct ts_reader *reader = ts_reader_new();
    uint32_t at = 0, found;
    int counter = -1;

    check(reader != NULL);
    while (at + PACKET <= size) {
        found = one(reader, data, size, at, PID, counter, 1u << 22);
        if (found == 0) {
            at += PACKET;
            counter = -1;
            continue;
        }
        check(reader->taken % PACKET == 0 && reader->taken <= size - at);
        check(found <= reader->out_room && reader->pts <= CLOCK_MASK);
        if (one == ts_read)
            there_and_back(reader, found, reader->pts);
        else
            check(sound_there_and_back(reader->out, found, reader->pts) == found);
        counter = reader->counter;
        at += reader->taken;
    }
    check(one(reader, data, size, size + 1, PID, -1, 100) == 0);
    ts_reader_free(reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    read_all(ts_read, data, (uint32_t)size);
    read_all(ts_read_sound, data, (uint32_t)size);
    sound_there_and_back(data, (uint32_t)size, size);
    return 0;
}

#ifdef REPLAY
#include "../replay.h"
#endif
