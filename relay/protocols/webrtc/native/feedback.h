/* Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01): what shows whether
 * all is well; see congestion.py. */
#ifndef RELAY_FEEDBACK_H
#define RELAY_FEEDBACK_H

#include <stdint.h>

struct feedback {
    uint16_t newest;            /* number of the last packet that came */
    uint32_t told;              /* packets up to that one */
    uint32_t received;          /* of these */
    double arrived;             /* when it came, in seconds of the other end's clock */
};

/* Read an RTCP packet that is one feedback. 0, or -1: it is misshapen, or nothing came. */
int feedback_read(struct feedback *out, const uint8_t *data, uint32_t length);

#endif
