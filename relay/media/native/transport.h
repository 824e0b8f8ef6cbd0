/* What Python sees of transport.c: cffi reads everything between the two marks. */
#ifndef RELAY_TRANSPORT_H
#define RELAY_TRANSPORT_H

#include <stdint.h>

/* -- begin */
/* One stream on its way out. Python reads ``out``; only native code writes it. */
struct ts_writer {
    uint8_t *out;               /* packets of what was written last */
    uint32_t room;
    uint16_t pid;
    uint8_t counter;            /* of the next packet */
    int64_t pcr;                /* of the last picture, 90 kHz; of sound none */
};

/* What streams are read with on their way in. */
struct ts_reader {
    uint8_t *pes;               /* its data, as it came */
    uint32_t pes_room;
    uint8_t *out;               /* the access unit, in the form of media/unit.py */
    uint32_t out_room;
    uint64_t pts;               /* 33 bits */
    uint32_t taken;             /* bytes that it was read from */
    uint8_t counter;            /* of the last packet */
    uint8_t keyframe;
};

struct ts_writer *ts_writer_new(uint16_t pid);
void ts_writer_free(struct ts_writer *writer);
uint32_t ts_writer_size(void);
struct ts_reader *ts_reader_new(void);
void ts_reader_free(struct ts_reader *reader);
uint32_t ts_reader_size(void);

/* One picture as a PES in whole packets, with a PCR, as mpegts.py has it: bytes in ``out``, or 0
 * when there is no memory. */
uint32_t ts_write(struct ts_writer *writer, const uint8_t *picture, uint32_t size, int64_t pts,
                  int random_access);

/* One Opus packet the same way, without a PCR. */
uint32_t ts_write_sound(struct ts_writer *writer, const uint8_t *packet, uint32_t size,
                        int64_t pts);

/* The common case of reading: a PES that begins at ``at``, says its length, and lies there whole
 * and in order, of pictures' NAL units. Bytes in ``out``, or 0 when it is anything else: Python
 * is to judge it, and nothing has changed.
 *
 * ``counter``: of the last packet, below 0 before the first. ``most``: bytes of a PES. */
uint32_t ts_read(struct ts_reader *reader, const uint8_t *data, uint32_t size, uint32_t at,
                 uint16_t pid, int counter, uint32_t most);

/* The same of one Opus packet that is alone in its PES, behind a plain control header. */
uint32_t ts_read_sound(struct ts_reader *reader, const uint8_t *data, uint32_t size, uint32_t at,
                       uint16_t pid, int counter, uint32_t most);
/* -- end */

#endif
