/*
 * Coverage-guided fuzzing (libFuzzer) of native/payload.c: two access units, one after the other,
 * cut by one cutter. What is cut is put together again and held against what went in.
 *
 * ``make fuzz`` builds it so; with REPLAY see replay.h.
 */

#include "../../../relay/protocols/webrtc/native/payload.c"

static void check(int condition)
{
    if (!condition)
        __builtin_trap();
}

/* The next NAL unit that is not empty, or NULL. */
static const uint8_t *next_nal(const uint8_t **at, const uint8_t *end, uint32_t *length)
{
    while (*at != end) {
        const uint8_t *nal = *at + 3, *next = next_code(nal, end), *last = next;

        while (last > nal && last[-1] == 0)
            last--;
        *at = next;
        if (last > nal) {
            *length = (uint32_t)(last - nal);
            return nal;
        }
    }
    return NULL;
}

static void compare(const struct payload_cutter *cutter, const uint8_t *annexb, uint32_t size)
{
    const uint8_t *end = annexb + size, *at = next_code(annexb, end), *payload = cutter->out, *nal;
    uint32_t length, place = 0, done = 0;

    nal = next_nal(&at, end, &length);
    for (; place < cutter->count; payload += cutter->lengths[place++]) {
        uint32_t left = cutter->lengths[place];

        check(left > 0 && left <= cutter->mtu && nal != NULL);
        if ((payload[0] & 0x1F) == FU_A && length > cutter->mtu) {
            uint32_t from = done == 0 ? 1 : done;

            check((payload[1] & 0x80) == (done == 0 ? 0x80 : 0));
            check(left > 2 && memcmp(payload + 2, nal + from, left - 2) == 0);
            done = from + left - 2;
            check(((payload[1] & 0x40) != 0) == (done == length));
            if (done < length)
                continue;
        } else if (left == length && memcmp(payload, nal, length) == 0) {
            check(done == 0);
        } else {
            check((payload[0] & 0x1F) == STAP_A);
            for (uint32_t byte = 1; byte < left; byte += 2 + length) {
                if (byte > 1)
                    nal = next_nal(&at, end, &length);
                check(nal != NULL && byte + 2 + length <= left);
                check((uint32_t)(payload[byte] << 8 | payload[byte + 1]) == length);
                check(memcmp(payload + byte + 2, nal, length) == 0);
            }
        }
        done = 0;
        nal = next_nal(&at, end, &length);
    }
    check(nal == NULL && payload == cutter->out + cutter->used);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct payload_cutter *cutter = payload_new();
    uint32_t mtu = size > 0 ? 16 + data[0] % 64 : 16, half = (uint32_t)size / 2;

    check(cutter != NULL);
    if (payload_cut(cutter, data, half, mtu) >= 0)
        compare(cutter, data, half);
    if (payload_cut(cutter, data + half, (uint32_t)size - half, mtu) >= 0)
        compare(cutter, data + half, (uint32_t)size - half);
    check(payload_cut(cutter, data, (uint32_t)size, 15) == -1);
    check(payload_cut(cutter, data, (uint32_t)size, 1 << 16) == -1);
    payload_free(cutter);
    return 0;
}

#ifdef REPLAY
#include "../replay.h"
#endif
