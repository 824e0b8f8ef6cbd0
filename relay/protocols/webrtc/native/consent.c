/*
 * The common case of consent: a check that names the credentials in use is answered, an answer to
 * the last check of ours is noted. All else goes up.
 */

#include "consent.h"

#include <string.h>

_Static_assert(sizeof((struct rx_consent *)0)->name == STUN_LONGEST_NAME, "names have room");

#define ANSWERS_A_SECOND 50.0   /* as path.py has it */
#define LEAST_WAIT 0.8          /* of the time between two checks of ours; RFC 7675 section 5.1 */
#define WAITS 0.4               /* between the least and the longest */

static int may_answer(struct rx_consent *consent, double now)
{
    if (now > consent->answers_at)
        consent->answers += (now - consent->answers_at) * ANSWERS_A_SECOND;
    if (consent->answers > ANSWERS_A_SECOND)
        consent->answers = ANSWERS_A_SECOND;
    consent->answers_at = now;
    if (consent->answers < 1)
        return 0;
    consent->answers -= 1;
    return 1;
}

int consent_check(struct rx_consent *consent, const uint8_t *data, uint32_t length,
                  const uint8_t *host, uint32_t host_length, const uint8_t *port, double now,
                  uint8_t *answer, uint32_t *answer_length)
{
    struct stun_message message;

    *answer_length = 0;
    /* Until a check of ours was answered from there, what goes there is held to a bound, and
     * without a name the credentials are on the move. */
    if (consent->answered == 0 || consent->name_length == 0 ||
        stun_read(&message, data, length) != 0)
        return CONSENT_PASS;
    if (message.kind == STUN_SUCCESS) {
        if (!consent->asked ||
            (memcmp(data + 8, consent->transaction, STUN_TRANSACTION) != 0 &&
             memcmp(data + 8, consent->former, STUN_TRANSACTION) != 0) ||
            !stun_holds(&message, data, &consent->theirs))
            return CONSENT_PASS;
        consent->asked = 0;
        consent->seen = consent->answered = now;
        return CONSENT_DONE;
    }
    if (message.kind != STUN_REQUEST || message.name == 0 ||
        message.name_length != consent->name_length ||
        memcmp(data + message.name, consent->name, consent->name_length) != 0 ||
        message.controlled || (message.priority != 0 && message.priority != consent->priority) ||
        !stun_holds(&message, data, &consent->ours))
        return CONSENT_PASS;
    if (!may_answer(consent, now)) {
        consent->limited++;
        return CONSENT_DONE;
    }
    consent->checks++;
    consent->seen = consent->checked = now;
    if (message.nominates)
        consent->nominated = now;
    *answer_length = stun_answer(answer, data, host, host_length, port, &consent->ours);
    return CONSENT_DONE;
}

int consent_ask(struct rx_consent *consent, const uint8_t *transaction, double now,
                uint8_t *request, uint32_t *length)
{
    if (!(consent->ask_every > 0) || consent->answered == 0 || consent->name_length == 0 ||
        consent->name_length > STUN_LONGEST_NAME || now < consent->ask_at)
        return CONSENT_QUIET;
    if (consent->asked) {
        consent->ask_every = 0;
        memcpy(consent->former, consent->transaction, STUN_TRANSACTION);
        return CONSENT_LATE;
    }
    *length = stun_request(request, transaction, consent->name, consent->name_length,
                           consent->tie_breaker, &consent->theirs);
    return CONSENT_ASK;
}

void consent_asked(struct rx_consent *consent, const uint8_t *transaction, double now,
                   uint16_t share)
{
    memcpy(consent->transaction, transaction, STUN_TRANSACTION);
    consent->asked = 1;
    consent->ask_at = now + consent->ask_every * (LEAST_WAIT + WAITS * share / 65535.0);
}
