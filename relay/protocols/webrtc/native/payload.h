/* What Python sees of payload.c: cffi reads everything between the two marks. */
#ifndef RELAY_PAYLOAD_H
#define RELAY_PAYLOAD_H

#include <stdint.h>

/* -- begin */
/* Python reads it; only native code writes it. */
struct payload_cutter {
    uint8_t *out;               /* the payloads of the last access unit, behind one another */
    uint32_t room;              /* bytes of it */
    uint32_t used;
    uint16_t *lengths;
    uint32_t most;              /* of them */
    uint32_t count;
    uint32_t mtu;               /* bytes of a payload, 16 to 65,535 */
    uint32_t small;             /* NAL units of the payload that is being put together */
    uint32_t begun;             /* where it starts, with room for its own header */
    uint32_t left;              /* bytes that it may still have */
    uint8_t importance;
};

struct payload_cutter *payload_new(void);
void payload_free(struct payload_cutter *cutter);
uint32_t payload_cutter_size(void);

/* Cut an access unit in Annex B form into RTP payloads, as h264_payload.py has it: how many, or
 * -1 when it is not the common case, or there is no memory. */
int32_t payload_cut(struct payload_cutter *cutter, const uint8_t *annexb, uint32_t size,
                    uint32_t mtu);
/* -- end */

#endif
