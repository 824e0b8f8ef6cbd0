/* STUN (RFC 8489) as far as the consent of a connected viewer needs it; see stun.py. */
#ifndef RELAY_STUN_H
#define RELAY_STUN_H

#include "receive.h"

#define STUN_HEADER 20
#define STUN_TRANSACTION 12
#define STUN_REQUEST 0x0001
#define STUN_SUCCESS 0x0101
#define STUN_LONGEST_ANSWER 96  /* bytes of what stun_answer writes */
#define STUN_LONGEST_REQUEST 384 /* of what stun_request does, with a name of STUN_LONGEST_NAME */
#define STUN_LONGEST_NAME 280

struct stun_message {
    uint16_t kind;
    uint32_t name;              /* where the value of USERNAME starts; 0: none */
    uint32_t name_length;
    uint32_t integrity;         /* where MESSAGE-INTEGRITY starts; 0: none */
    uint32_t priority;          /* 0: none */
    uint8_t nominates;          /* USE-CANDIDATE */
    uint8_t controlled;         /* which of the two roles it names */
    uint8_t controlling;
};

void stun_make_key(struct rx_key *key, const uint8_t *password, uint32_t length);

/* Read one message. 0, or -1: it is misshapen, its FINGERPRINT is wrong, or it holds what must
 * be understood and is not of those above. */
int stun_read(struct stun_message *out, const uint8_t *data, uint32_t length);

/* Whether MESSAGE-INTEGRITY was made with that key. */
int stun_holds(const struct stun_message *message, const uint8_t *data,
               const struct rx_key *key);

/* Write the success response to ``request``, seen from an address of 4 or 16 bytes; returns its
 * length. ``port``: as on the wire. */
uint32_t stun_answer(uint8_t *out, const uint8_t *request, const uint8_t *host,
                     uint32_t host_length, const uint8_t *port, const struct rx_key *key);

/* Write a check of a controlled agent; returns its length. ``name``: USERNAME of the checks that
 * come from there; this one has its two parts the other way round. */
uint32_t stun_request(uint8_t *out, const uint8_t *transaction, const uint8_t *name,
                      uint32_t name_length, uint64_t tie_breaker, const struct rx_key *key);

#endif
