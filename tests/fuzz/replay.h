/* A program of its own of a fuzzer: it runs the files that it is given, each as it is and changed
 * at random some hundred times, and says how many runs there were. */

#include <stdio.h>

#define LARGEST_INPUT 16384
#define CHANGED 100

static uint64_t dice = 88172645463325252u;

static uint32_t roll(uint32_t sides)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return (uint32_t)(dice >> 32) % sides;
}

int main(int count, char **names)
{
    static uint8_t whole[LARGEST_INPUT];
    int runs = 0;

    for (int at = 1; at < count; at++) {
        FILE *file = fopen(names[at], "rb");
        size_t size;

        check(file != NULL);
        size = fread(whole, 1, sizeof whole, file);
        fclose(file);
        for (int turn = 0; turn <= CHANGED; turn++, runs++) {
            /* Exactly as large as the input is, so that a read beyond it is seen. */
            uint8_t *changed = malloc(size + 1);
            size_t length = turn == 0 ? size : roll((uint32_t)size + 1);

            check(changed != NULL);
            memcpy(changed, whole, size);
            for (uint32_t byte = 0; turn > 0 && length > 0 && byte < 1 + length / 40; byte++)
                changed[roll((uint32_t)length)] = (uint8_t)roll(256);
            LLVMFuzzerTestOneInput(changed, length);
            free(changed);
        }
    }
    printf("%d\n", runs);
    return 0;
}
