/* What a connected viewer sends, where all is well: consent checks, and reports without a loss. */
#ifndef RELAY_VIEWERS_H
#define RELAY_VIEWERS_H

#include "receive.h"

#include "stun.h"

enum {
    VW_DONE,                    /* dealt with */
    VW_PASS,                    /* Python is to have it as it came */
    VW_SAID                     /* RTCP, opened where it lies: Python is to have that */
};

/* RTCP as it came, ``length`` bytes; that of what is left when opened. */
int vw_hear(struct rx_viewer *viewer, rx_unprotect unprotect, uint8_t *data, int *length,
            double now);

/* STUN as it came, from an address of 4 or 16 bytes. ``answer``: room for
 * STUN_LONGEST_ANSWER bytes; of how many is to be sent is told in ``answer_length``, maybe 0. */
int vw_check(struct rx_viewer *viewer, const uint8_t *data, uint32_t length, const uint8_t *host,
             uint32_t host_length, const uint8_t *port, double now, uint8_t *answer,
             uint32_t *answer_length);

enum {
    VW_QUIET,                   /* none of ours is due, or Python asks */
    VW_ASK,                     /* the check is to be sent, and vw_asked to be told */
    VW_LATE                     /* the last one was not answered: Python is to ask from now on */
};

/* A check of ours. ``transaction``: STUN_TRANSACTION bytes that nobody can guess; ``request``: room
 * for STUN_LONGEST_REQUEST. */
int vw_ask(struct rx_viewer *viewer, const uint8_t *transaction, double now, uint8_t *request,
           uint32_t *length);
/* It leaves. ``share``: where between the least and the longest wait the next one is due. */
void vw_asked(struct rx_viewer *viewer, const uint8_t *transaction, double now, uint16_t share);

#endif
