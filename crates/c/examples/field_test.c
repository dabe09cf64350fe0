/* What a test in the field does: which board it is, what its sensors say, and a pattern to all of its memory and back, with rates.
   Programs like this run at the same time on the same card, under `jitney run` or beside a broker, and each by itself.

   ./field_test [SELECTOR [MEGABYTES]]; without a selector on an emulated board in its own process. */

#include <jitney.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(int result, const char *what)
{
    const jitney_error *error = jitney_last_error();
    if (result >= 0)
        return;
    fprintf(stderr, "%s: %s\n", what, error->what);
    if (error->holder)
        fprintf(stderr, "  it is held by %s\n", error->holder);
    if (error->remedy)
        fprintf(stderr, "  %s\n", error->remedy);
    exit(1);
}

/* A pseudo-random pattern, from a seed of its own for each pass. */
static uint32_t next(uint32_t *state)
{
    return *state = *state * 1664525u + 1013904223u;
}

static void report(const char *way, const jitney_completed *done)
{
    printf("%s 0x%llx bytes using DMA in %llu ns (%.1f Mbytes/sec)\n", way, (unsigned long long)done->bytes,
           (unsigned long long)done->nanoseconds, (double)done->bytes * 1e3 / (double)done->nanoseconds);
}

int main(int argc, char **argv)
{
    jitney_emulated_options options;
    jitney_bus *bus = NULL;
    jitney_card *card;
    jitney_card_info info;
    jitney_board board;
    jitney_reading readings[32];
    jitney_channel *h2c, *c2h;
    jitney_buffer *buffer;
    jitney_piece all;
    jitney_completed done;
    uint64_t size = (argc > 2 ? strtoull(argv[2], NULL, 0) : 16) << 20;

    memset(&options, 0, sizeof options);
    options.board = "nitefury";
    if (argc > 1) {
        must(jitney_bus_open(NULL, &bus), "opening the bus");
        must(jitney_card_open(bus, argv[1], &card), "opening the card");
    } else {
        must(jitney_card_emulate(&options, &card), "emulating a board");
    }
    must(jitney_card_describe(card, &info), "the card");
    must(jitney_card_board(card, &board), "identifying the board");
    printf("Found %s board version 0x%x for PCI device %s (%04x:%04x)\n", board.name, (unsigned)board.version,
           info.address, info.vendor, info.device);

    int count = jitney_card_sensors(card, readings, 32);
    must(count, "reading the sensors");
    for (int i = 0; i < count && i < 32; i++)
        printf("%s=%.2f %s\n", readings[i].name, readings[i].now, readings[i].unit);

    if (board.memory_count == 0) {
        printf("the board has no memory to test\n");
        return 3;
    }
    if (size > board.memories[0].size)
        size = board.memories[0].size;
    must(jitney_channel_open(card, "h2c0", NULL, &h2c), "the channel to the card");
    must(jitney_channel_open(card, "c2h0", NULL, &c2h), "the channel from the card");
    must(jitney_card_buffer(card, size, NULL, &buffer), "memory for DMA");
    uint32_t *words = (uint32_t *)jitney_buffer_pointer(buffer);
    memset(&all, 0, sizeof all);
    all.buffer = buffer;
    all.length = size;
    all.card_address = board.memories[0].base;

    for (uint32_t seed = 1; seed <= 2; seed++) {
        uint32_t state = seed;
        for (uint64_t i = 0; i < size / 4; i++)
            words[i] = next(&state);
        must(jitney_channel_run(h2c, &all, 1, -1, &done), "writing to the card");
        report("wrote", &done);
        memset(words, 0, size);
        must(jitney_channel_run(c2h, &all, 1, -1, &done), "reading from the card");
        report("read", &done);
        state = seed;
        for (uint64_t i = 0; i < size / 4; i++) {
            uint32_t expected = next(&state);
            if (words[i] != expected) {
                printf("Test pattern fail: word 0x%llx is 0x%08x, not 0x%08x\n", (unsigned long long)i, words[i], expected);
                return 1;
            }
        }
        printf("Test pattern pass\n");
    }
    must(jitney_buffer_free(buffer), "freeing the memory");
    jitney_channel_free(h2c);
    jitney_channel_free(c2h);
    jitney_card_free(card);
    jitney_bus_free(bus);
    return 0;
}
