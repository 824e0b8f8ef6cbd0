/* What a connected viewer sends, where all is well: reports without a loss. */
#ifndef RELAY_VIEWERS_H
#define RELAY_VIEWERS_H

#include "receive.h"

enum {
    VW_DONE,                    /* dealt with */
    VW_PASS,                    /* Python is to have it as it came */
    VW_SAID                     /* RTCP, opened where it lies: Python is to have that */
};

/* RTCP as it came, ``length`` bytes; that of what is left when opened. */
int vw_hear(struct rx_viewer *viewer, rx_unprotect unprotect, uint8_t *data, int *length,
            double now);

#endif
