/* What the test programs have in common. */
#ifndef TEST_H
#define TEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <jitney.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Generous: the machine may have other things to do. */
#define SOON 60000

#define CHECK(what)                                                                                        \
    do {                                                                                                   \
        if (!(what)) {                                                                                     \
            printf("%s:%d: not so: %s\n  last error: %s\n", __FILE__, __LINE__, #what,                     \
                   jitney_last_error()->json);                                                             \
            fflush(stdout);                                                                                \
            exit(1);                                                                                       \
        }                                                                                                  \
    } while (0)

/* That it fails with this errno. */
#define FAILS(what, number) CHECK((what) == -(number) && jitney_last_error()->code == -(number))

#define LOOPBACK "NiteFury_dma_stream_loopback"

struct test {
    const char *name;
    void (*run)(void);
};

/* A board in this process. */
static inline jitney_card *emulated(const char *board)
{
    jitney_emulated_options options;
    jitney_card *card = NULL;
    memset(&options, 0, sizeof options);
    options.board = board;
    CHECK(jitney_card_emulate(&options, &card) == 0);
    return card;
}

/* One whose streams to it come back. */
static inline jitney_card *loopback(void)
{
    jitney_card *card = emulated(LOOPBACK);
    int inputs[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    int channels = jitney_card_channels(card, NULL, 0);
    CHECK(channels > 0 && jitney_card_set_routes(card, inputs, (size_t)channels / 2) == 0);
    return card;
}

/* Some bytes of a buffer, to one address of the card. */
static inline jitney_piece piece(jitney_buffer *buffer, uint64_t offset, uint64_t length, uint64_t address)
{
    jitney_piece own;
    own.buffer = buffer;
    own.offset = offset;
    own.length = length;
    own.card_address = address;
    return own;
}

/* Whether the descriptor is readable in time. */
static inline int readable(int fd, int timeout_ms)
{
    struct pollfd poll_fd;
    poll_fd.fd = fd;
    poll_fd.events = POLLIN;
    poll_fd.revents = 0;
    return poll(&poll_fd, 1, timeout_ms);
}

static inline void pause_ms(long milliseconds)
{
    struct timespec time;
    time.tv_sec = milliseconds / 1000;
    time.tv_nsec = milliseconds % 1000 * 1000000;
    nanosleep(&time, NULL);
}

/* Runs the tests that are named, or all; `--list` says which there are. */
static inline int run_tests(const struct test *tests, size_t count, int argc, char **argv)
{
    for (size_t i = 0; i < count; i++) {
        int wanted = argc < 2;
        for (int j = 1; j < argc; j++)
            wanted |= strcmp(argv[j], tests[i].name) == 0;
        if (argc == 2 && strcmp(argv[1], "--list") == 0) {
            printf("%s\n", tests[i].name);
        } else if (wanted) {
            printf("test %s ... ", tests[i].name);
            fflush(stdout);
            tests[i].run();
            printf("ok\n");
            fflush(stdout);
        }
    }
    return 0;
}

#endif
