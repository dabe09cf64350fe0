/* Does as often as a line of its input says what the line names, through the C library, and says how many nanoseconds it took:
   `reads 5000` or `transfers 2000`. The card is the only one that JITNEY_CARDS names. */

#include <jitney.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SIZE = 4096 };

static int failed(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, jitney_last_error()->what);
    return 1;
}

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(void)
{
    jitney_bus *bus;
    jitney_card *card;
    jitney_registers *registers;
    jitney_channel *h2c;
    jitney_buffer *buffer;
    char what[16];
    int count;

    if (jitney_bus_open(NULL, &bus) < 0 || jitney_card_open(bus, NULL, &card) < 0)
        return failed("opening the card");
    if (jitney_registers_open(card, "bar2", &registers) < 0 || jitney_channel_open(card, "h2c0", NULL, &h2c) < 0)
        return failed("opening what it has");
    if (jitney_bus_buffer(bus, SIZE, NULL, &buffer) < 0)
        return failed("a buffer");
    jitney_piece piece;
    memset(&piece, 0, sizeof piece);
    piece.buffer = buffer;
    while (scanf("%15s %d", what, &count) == 2) {
        long long begun = now();
        for (int i = 0; i < count; i++) {
            uint32_t value;
            if (strcmp(what, "reads") == 0 ? jitney_registers_read32(registers, 0, &value) < 0
                                           : jitney_channel_run(h2c, &piece, 1, -1, NULL) < 0)
                return failed(what);
        }
        printf("%lld\n", now() - begun);
        fflush(stdout);
    }
    return 0;
}
