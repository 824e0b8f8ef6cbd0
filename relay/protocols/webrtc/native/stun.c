/*
 * Connectivity checks: reading one, telling whether it is authentic, and answering it.
 *
 * These are bytes of strangers; each read is held to the length of what was received. SHA-1
 * (RFC 3174) and CRC-32 (RFC 1952) stand here, since no library that is always there has them
 * for native code. What they are for is fixed by the protocol: an HMAC, whose strength does not
 * rest on collisions.
 */

#include "stun.h"

#include "bytes.h"

#include <string.h>

#define BLOCK 64
#define DIGEST 20
#define COOKIE 0x2112A442u
#define XOR_FINGERPRINT 0x5354554Eu
#define MOST_ATTRIBUTES 64
#define PEER_REFLEXIVE 0x6EFFFFFFu /* priority of what we are seen as, as ice.py has it */
#define INTEGRITY_SIZE 24       /* of the whole attribute */

enum {
    MAPPED_ADDRESS = 0x0001,
    USERNAME = 0x0006,
    MESSAGE_INTEGRITY = 0x0008,
    XOR_MAPPED_ADDRESS = 0x0020,
    PRIORITY = 0x0024,
    USE_CANDIDATE = 0x0025,
    REQUIRED = 0x8000,          /* kinds below it must be understood */
    FINGERPRINT = 0x8028,
    ICE_CONTROLLED = 0x8029,
    ICE_CONTROLLING = 0x802A
};

/* -- SHA-1, HMAC, CRC-32 ------------------------------------------------------------------- */

static const uint32_t START[5] = {0x67452301u, 0xEFCDAB89u, 0x98BADCFEu, 0x10325476u,
                                  0xC3D2E1F0u};

static uint32_t turned(uint32_t value, unsigned bits)
{
    return value << bits | value >> (32 - bits);
}

static void take_block(uint32_t *state, const uint8_t *block)
{
    uint32_t words[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];

    for (unsigned at = 0; at < 16; at++)
        words[at] = get32(block + 4 * (size_t)at);
    for (unsigned at = 16; at < 80; at++)
        words[at] = turned(words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16], 1);
    for (unsigned at = 0; at < 80; at++) {
        uint32_t mixed, constant, next;

        if (at < 20)
            mixed = (b & c) | (~b & d), constant = 0x5A827999u;
        else if (at < 40)
            mixed = b ^ c ^ d, constant = 0x6ED9EBA1u;
        else if (at < 60)
            mixed = (b & c) | (b & d) | (c & d), constant = 0x8F1BBCDCu;
        else
            mixed = b ^ c ^ d, constant = 0xCA62C1D6u;
        next = turned(a, 5) + mixed + e + constant + words[at];
        e = d, d = c, c = turned(b, 30), b = a, a = next;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e;
}

/* The rest of a message whose first ``before`` bytes, whole blocks, are in ``state``. */
static void finish(uint32_t *state, uint32_t before, const uint8_t *data, uint32_t length,
                   uint8_t *digest)
{
    uint8_t block[BLOCK];
    uint32_t at = 0, left;

    for (; length - at >= BLOCK; at += BLOCK)
        take_block(state, data + at);
    left = length - at;
    memset(block, 0, sizeof block);
    memcpy(block, data + at, left);
    block[left] = 0x80;
    if (left >= BLOCK - 8) {
        take_block(state, block);
        memset(block, 0, sizeof block);
    }
    put32(block + BLOCK - 8, (before + length) >> 29);
    put32(block + BLOCK - 4, (before + length) << 3);
    take_block(state, block);
    for (unsigned word = 0; word < 5; word++)
        put32(digest + 4 * (size_t)word, state[word]);
}

void stun_make_key(struct rx_key *key, const uint8_t *password, uint32_t length)
{
    uint8_t padded[BLOCK] = {0};

    if (length > BLOCK) {
        uint32_t state[5];

        memcpy(state, START, sizeof state);
        finish(state, 0, password, length, padded);
    } else {
        memcpy(padded, password, length);
    }
    memcpy(key->inner, START, sizeof START);
    memcpy(key->outer, START, sizeof START);
    for (unsigned at = 0; at < BLOCK; at++)
        padded[at] ^= 0x36;
    take_block(key->inner, padded);
    for (unsigned at = 0; at < BLOCK; at++)
        padded[at] ^= 0x36 ^ 0x5C;
    take_block(key->outer, padded);
}

/* Of two pieces, the first of which is the 4 bytes of a header. */
static void authenticate(const struct rx_key *key, const uint8_t *head, const uint8_t *rest,
                         uint32_t length, uint8_t *digest)
{
    uint32_t inner[5], outer[5];
    uint8_t block[BLOCK], hashed[DIGEST];
    uint32_t first = length < BLOCK - 4 ? length : BLOCK - 4;

    memcpy(inner, key->inner, sizeof inner);
    memcpy(outer, key->outer, sizeof outer);
    memcpy(block, head, 4);
    memcpy(block + 4, rest, first);
    if (first == BLOCK - 4) {
        take_block(inner, block);
        finish(inner, 2 * BLOCK, rest + first, length - first, hashed);
    } else {
        finish(inner, BLOCK, block, 4 + first, hashed);
    }
    finish(outer, BLOCK, hashed, DIGEST, digest);
}

static uint32_t checksum(const uint8_t *data, uint32_t length)
{
    static const uint32_t nibbles[16] = {
        0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4,
        0x4DB26158, 0x5005713C, 0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C,
        0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C};
    uint32_t sum = 0xFFFFFFFFu;

    for (uint32_t at = 0; at < length; at++) {
        sum ^= data[at];
        sum = sum >> 4 ^ nibbles[sum & 15];
        sum = sum >> 4 ^ nibbles[sum & 15];
    }
    return ~sum;
}

/* -- messages ------------------------------------------------------------------------------- */

/* One attribute in front of MESSAGE-INTEGRITY. 0, or -1 for one that is not known here. */
static int note(struct stun_message *out, uint32_t kind, uint32_t at, uint32_t size,
                const uint8_t *data)
{
    switch (kind) {
    case USERNAME:
        if (out->name == 0)
            out->name = at, out->name_length = size;
        return 0;
    case PRIORITY:
        if (size != 4)
            return -1;
        if (out->priority == 0)
            out->priority = get32(data + at);
        return 0;
    case USE_CANDIDATE:
        out->nominates = 1;
        return 0;
    case ICE_CONTROLLED:
        out->controlled = 1;
        return 0;
    case ICE_CONTROLLING:
        out->controlling = 1;
        return 0;
    case MAPPED_ADDRESS:
    case XOR_MAPPED_ADDRESS:
        return 0;
    default:
        return kind < REQUIRED ? -1 : 0;
    }
}

int stun_read(struct stun_message *out, const uint8_t *data, uint32_t length)
{
    uint32_t at = STUN_HEADER;

    memset(out, 0, sizeof *out);
    if (length < STUN_HEADER || data[0] > 3 || get32(data + 4) != COOKIE ||
        get16(data + 2) != length - STUN_HEADER || (length & 3))
        return -1;
    out->kind = (uint16_t)get16(data);
    for (unsigned count = 0; at < length; count++) {
        uint32_t kind, size;

        /* The length is a multiple of four, and so is ``at``: the header of one is there. */
        if (count == MOST_ATTRIBUTES)
            return -1;
        kind = get16(data + at);
        size = get16(data + at + 2);
        if (size > length - at - 4)
            return -1;
        if (kind == FINGERPRINT) {
            if (size != 4 || at + 8 != length ||
                (checksum(data, at) ^ XOR_FINGERPRINT) != get32(data + at + 4))
                return -1;
            return 0;
        }
        /* What stands behind MESSAGE-INTEGRITY is not protected by it. */
        if (out->integrity == 0) {
            if (kind == MESSAGE_INTEGRITY) {
                if (size != DIGEST)
                    return -1;
                out->integrity = at;
            } else if (note(out, kind, at + 4, size, data) != 0) {
                return -1;
            }
        }
        at += 4 + ((size + 3) & ~3u);
    }
    return 0;
}

int stun_holds(const struct stun_message *message, const uint8_t *data,
               const struct rx_key *key)
{
    uint32_t at = message->integrity;
    uint8_t head[4], digest[DIGEST], differs = 0;

    if (at == 0)
        return 0;
    memcpy(head, data, 2);
    put16(head + 2, at + INTEGRITY_SIZE - STUN_HEADER);
    authenticate(key, head, data + 4, at - 4, digest);
    for (unsigned byte = 0; byte < DIGEST; byte++) /* in constant time */
        differs |= digest[byte] ^ data[at + 4 + byte];
    return differs == 0;
}

/* MESSAGE-INTEGRITY and FINGERPRINT behind ``at`` bytes; returns the whole length. */
static uint32_t seal(uint8_t *out, uint32_t at, const struct rx_key *key)
{
    put16(out + 2, at + INTEGRITY_SIZE - STUN_HEADER);
    put16(out + at, MESSAGE_INTEGRITY);
    put16(out + at + 2, DIGEST);
    authenticate(key, out, out + 4, at - 4, out + at + 4);
    at += INTEGRITY_SIZE;
    put16(out + 2, at + 8 - STUN_HEADER);
    put16(out + at, FINGERPRINT);
    put16(out + at + 2, 4);
    put32(out + at + 4, checksum(out, at) ^ XOR_FINGERPRINT);
    return at + 8;
}

uint32_t stun_answer(uint8_t *out, const uint8_t *request, const uint8_t *host,
                     uint32_t host_length, const uint8_t *port, const struct rx_key *key)
{
    uint32_t at = STUN_HEADER;

    put16(out, STUN_SUCCESS);
    memcpy(out + 4, request + 4, 16); /* the cookie and the transaction */
    put16(out + at, XOR_MAPPED_ADDRESS);
    put16(out + at + 2, 4 + host_length);
    out[at + 4] = 0;
    out[at + 5] = host_length == 4 ? 1 : 2;
    for (unsigned byte = 0; byte < 2; byte++)
        out[at + 6 + byte] = port[byte] ^ request[4 + byte];
    for (unsigned byte = 0; byte < host_length; byte++)
        out[at + 8 + byte] = host[byte] ^ request[4 + byte];
    return seal(out, at + 8 + host_length, key);
}

uint32_t stun_request(uint8_t *out, const uint8_t *transaction, const uint8_t *name,
                      uint32_t name_length, uint64_t tie_breaker, const struct rx_key *key)
{
    const uint8_t *colon = memchr(name, ':', name_length);
    uint32_t first = colon == NULL ? name_length : (uint32_t)(colon - name);
    uint32_t second = colon == NULL ? 0 : name_length - first - 1;
    uint32_t at = STUN_HEADER;

    put16(out, STUN_REQUEST);
    put32(out + 4, COOKIE);
    memcpy(out + 8, transaction, STUN_TRANSACTION);
    put16(out + at, USERNAME);
    put16(out + at + 2, second + 1 + first);
    memset(out + at + 4, 0, (second + 1 + first + 3) & ~3u);
    memcpy(out + at + 4, name + name_length - second, second);
    out[at + 4 + second] = ':';
    memcpy(out + at + 4 + second + 1, name, first);
    at += 4 + ((second + 1 + first + 3) & ~3u);
    put16(out + at, PRIORITY);
    put16(out + at + 2, 4);
    put32(out + at + 4, PEER_REFLEXIVE);
    put16(out + at + 8, ICE_CONTROLLED);
    put16(out + at + 10, 8);
    put32(out + at + 12, (uint32_t)(tie_breaker >> 32));
    put32(out + at + 16, (uint32_t)tie_breaker);
    return seal(out, at + 20, key);
}
