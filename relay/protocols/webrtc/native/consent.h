/* Consent on one path, where all is well: see struct rx_consent. */
#ifndef RELAY_CONSENT_H
#define RELAY_CONSENT_H

#include "receive.h"

#include "stun.h"

enum {
    CONSENT_DONE,               /* dealt with */
    CONSENT_PASS                /* Python is to have it as it came */
};

/* STUN as it came, from an address of 4 or 16 bytes. ``answer``: room for
 * STUN_LONGEST_ANSWER bytes; of how many is to be sent is told in ``answer_length``, maybe 0. */
int consent_check(struct rx_consent *consent, const uint8_t *data, uint32_t length,
                  const uint8_t *host, uint32_t host_length, const uint8_t *port, double now,
                  uint8_t *answer, uint32_t *answer_length);

enum {
    CONSENT_QUIET,              /* none of ours is due, or Python asks */
    CONSENT_ASK,                /* the check is to be sent, and consent_asked to be told */
    CONSENT_LATE                /* the last one was not answered: Python is to ask from now on */
};

/* A check of ours. ``transaction``: STUN_TRANSACTION bytes that nobody can guess; ``request``: room
 * for STUN_LONGEST_REQUEST. */
int consent_ask(struct rx_consent *consent, const uint8_t *transaction, double now,
                uint8_t *request, uint32_t *length);
/* It leaves. ``share``: where between the least and the longest wait the next one is due. */
void consent_asked(struct rx_consent *consent, const uint8_t *transaction, double now,
                   uint16_t share);

#endif
