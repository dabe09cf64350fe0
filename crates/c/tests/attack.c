/* What no program should do: wrong handles, freed handles, NULL everywhere, sizes that cannot be, memory that is freed in the middle
   of its transfer, threads that free what others use. Each call is refused or does what it says; nothing ends the process. */

#include "test.h"
#include <pthread.h>

/* Every function with the same nonsense for a handle; none may say that it has done something. */
static void all_refuse(void *handle, int null_is_none)
{
    union {
        void *pointer;
        uint64_t number;
        jitney_card_info card;
        jitney_board board;
        jitney_buffer_info buffer;
        jitney_flash_info flash;
        jitney_completed completed;
        jitney_block block;
        size_t size;
        uint32_t word;
    } out;
    char room[64];
    jitney_piece own;
    memset(&own, 0, sizeof own);
    own.buffer = (jitney_buffer *)handle;
    memset(&out, 0, sizeof out);
#define REFUSED(call) CHECK((call) < 0 && jitney_last_error()->code < 0)
    REFUSED(jitney_bus_cards((jitney_bus *)handle, NULL, 0));
    REFUSED(jitney_bus_broker((jitney_bus *)handle));
    REFUSED(jitney_bus_buffer((jitney_bus *)handle, 4096, NULL, (jitney_buffer **)&out.pointer));
    REFUSED(jitney_bus_share((jitney_bus *)handle, (jitney_buffer *)handle, "x", 0));
    REFUSED(jitney_bus_attach((jitney_bus *)handle, "x", (jitney_buffer **)&out.pointer));
    REFUSED(jitney_card_open((jitney_bus *)handle, NULL, (jitney_card **)&out.pointer));
    REFUSED(jitney_card_describe((jitney_card *)handle, &out.card));
    REFUSED(jitney_card_buffer((jitney_card *)handle, 4096, NULL, (jitney_buffer **)&out.pointer));
    REFUSED(jitney_card_reset((jitney_card *)handle));
    REFUSED(jitney_card_board((jitney_card *)handle, &out.board));
    REFUSED(jitney_card_sensors((jitney_card *)handle, NULL, 0));
    REFUSED(jitney_card_set_routes((jitney_card *)handle, NULL, 0));
    REFUSED(jitney_card_channels((jitney_card *)handle, NULL, 0));
    REFUSED(jitney_emulated_set_interrupt((jitney_card *)handle, 0, 1));
    REFUSED(jitney_emulated_inject((jitney_card *)handle, "link-down"));
    REFUSED(jitney_registers_open((jitney_card *)handle, "bar0", (jitney_registers **)&out.pointer));
    REFUSED(jitney_registers_size((jitney_registers *)handle, &out.number));
    REFUSED(jitney_registers_find((jitney_registers *)handle, "x", &out.number));
    REFUSED(jitney_registers_read32((jitney_registers *)handle, 0, &out.word));
    REFUSED(jitney_registers_write32((jitney_registers *)handle, 0, 0));
    REFUSED(jitney_registers_read((jitney_registers *)handle, 0, 32, &out.number));
    REFUSED(jitney_registers_write((jitney_registers *)handle, 0, 32, 0));
    CHECK(jitney_registers_pointer((jitney_registers *)handle) == NULL);
    REFUSED(jitney_buffer_describe((jitney_buffer *)handle, &out.buffer));
    CHECK(jitney_buffer_pointer((jitney_buffer *)handle) == NULL);
    REFUSED(jitney_buffer_fd((jitney_buffer *)handle));
    REFUSED(jitney_channel_open((jitney_card *)handle, "h2c0", NULL, (jitney_channel **)&out.pointer));
    REFUSED(jitney_channel_submit((jitney_channel *)handle, &own, 1, (jitney_transfer **)&out.pointer));
    REFUSED(jitney_channel_run((jitney_channel *)handle, &own, 1, 0, &out.completed));
    REFUSED(jitney_channel_write((jitney_channel *)handle, room, 1, 0));
    REFUSED(jitney_channel_read((jitney_channel *)handle, room, 1, 0));
    REFUSED(jitney_transfer_wait((jitney_transfer *)handle, -1, &out.completed));
    REFUSED(jitney_transfer_cancel((jitney_transfer *)handle));
    REFUSED(jitney_transfer_fd((jitney_transfer *)handle));
    REFUSED(jitney_stream_capture((jitney_card *)handle, "c2h0", NULL, NULL, (jitney_stream **)&out.pointer));
    REFUSED(jitney_stream_ring((jitney_bus *)handle, "x", (jitney_stream **)&out.pointer));
    REFUSED(jitney_stream_block_size((jitney_stream *)handle, &out.size));
    REFUSED(jitney_stream_read((jitney_stream *)handle, room, sizeof room, -1, &out.block));
    REFUSED(jitney_stream_fd((jitney_stream *)handle));
    REFUSED(jitney_interrupt_line((jitney_card *)handle, 0, (jitney_interrupt **)&out.pointer));
    REFUSED(jitney_interrupt_vector((jitney_card *)handle, 0, (jitney_interrupt **)&out.pointer));
    REFUSED(jitney_interrupt_wait((jitney_interrupt *)handle, -1));
    REFUSED(jitney_interrupt_fd((jitney_interrupt *)handle));
    REFUSED(jitney_lease_take((jitney_card *)handle, "x", 0, 0, (jitney_lease **)&out.pointer));
    REFUSED(jitney_lease_wait((jitney_lease *)handle, -1));
    REFUSED(jitney_lease_fd((jitney_lease *)handle));
    REFUSED(jitney_flash_open((jitney_card *)handle, (jitney_flash **)&out.pointer));
    REFUSED(jitney_flash_describe((jitney_flash *)handle, &out.flash));
    REFUSED(jitney_flash_read((jitney_flash *)handle, 0, room, 1));
    REFUSED(jitney_watch_open((jitney_bus *)handle, (jitney_watch **)&out.pointer));
    REFUSED(jitney_watch_next((jitney_watch *)handle, &out.card, -1));
    REFUSED(jitney_watch_fd((jitney_watch *)handle));
    CHECK((jitney_watch_free((jitney_watch *)handle) == 0) == null_is_none);
    CHECK((jitney_bus_free((jitney_bus *)handle) == 0) == null_is_none);
    CHECK((jitney_card_free((jitney_card *)handle) == 0) == null_is_none);
    CHECK((jitney_registers_free((jitney_registers *)handle) == 0) == null_is_none);
    CHECK((jitney_buffer_free((jitney_buffer *)handle) == 0) == null_is_none);
    CHECK((jitney_channel_free((jitney_channel *)handle) == 0) == null_is_none);
    CHECK((jitney_transfer_free((jitney_transfer *)handle) == 0) == null_is_none);
    CHECK((jitney_stream_free((jitney_stream *)handle) == 0) == null_is_none);
    CHECK((jitney_interrupt_free((jitney_interrupt *)handle) == 0) == null_is_none);
    CHECK((jitney_lease_free((jitney_lease *)handle) == 0) == null_is_none);
    CHECK((jitney_flash_free((jitney_flash *)handle) == 0) == null_is_none);
}

static void no_handle_at_all(void)
{
    int local = 0;
    void *memory = malloc(64);
    all_refuse(NULL, 1);
    all_refuse(&local, 0);
    all_refuse(memory, 0);
    all_refuse((void *)(uintptr_t)1, 0);
    all_refuse((void *)UINTPTR_MAX, 0);
    for (uintptr_t tag = 0x8f; tag < 0x9d; tag++) {
        /* The type is right, and the object is not there. */
        all_refuse((void *)(tag << 56 | 0x00ffffffffffffff), 0);
        all_refuse((void *)(tag << 56 | 0x0000123412341234), 0);
    }
    free(memory);
}

static void freed_handles(void)
{
    jitney_card *card = emulated("nitefury"), *other;
    jitney_buffer *buffer;
    jitney_registers *bar;
    jitney_channel *channel;
    jitney_interrupt *line;
    jitney_flash *flash;
    jitney_lease *lease;
    CHECK(jitney_card_buffer(card, 4096, NULL, &buffer) == 0 && jitney_registers_open(card, "bar0", &bar) == 0);
    CHECK(jitney_channel_open(card, "h2c0", NULL, &channel) == 0 && jitney_interrupt_line(card, 0, &line) == 0);
    CHECK(jitney_flash_open(card, &flash) == 0 && jitney_lease_take(card, "mine", 0, 0, &lease) == 0);
    void *handles[] = {buffer, bar, channel, line, flash, lease, card};
    CHECK(jitney_buffer_free(buffer) == 0 && jitney_registers_free(bar) == 0 && jitney_channel_free(channel) == 0);
    CHECK(jitney_interrupt_free(line) == 0 && jitney_flash_free(flash) == 0 && jitney_lease_free(lease) == 0);
    CHECK(jitney_card_free(card) == 0);
    for (size_t i = 0; i < sizeof handles / sizeof *handles; i++)
        all_refuse(handles[i], 0);
    FAILS(jitney_card_free(card), EBADF);
    /* In the places of the others. */
    other = emulated("nitefury");
    FAILS(jitney_card_free(card), EBADF);
    CHECK(other != card && jitney_card_free(other) == 0);
}

static void null_and_huge(void)
{
    jitney_card *card = emulated("nitefury");
    jitney_buffer *buffer, *none;
    jitney_buffer_options options;
    jitney_channel *h2c, *c2h;
    jitney_registers *bar;
    jitney_lease *lease;
    jitney_piece own;
    CHECK(jitney_card_buffer(card, 4096, NULL, &buffer) == 0);
    /* Nobody has it now. */
    FAILS(jitney_channel_open(card, "h2c0", NULL, NULL), EINVAL);
    CHECK(jitney_channel_open(card, "h2c0", NULL, &h2c) == 0 && jitney_channel_open(card, "c2h0", NULL, &c2h) == 0);
    FAILS(jitney_card_buffer(card, 0, NULL, &none), EINVAL);
    FAILS(jitney_card_buffer(card, UINT64_MAX, NULL, &none), EINVAL);
    CHECK(jitney_card_buffer(card, UINT64_MAX / 4, NULL, &none) < 0);
    memset(&options, 0xff, sizeof options);
    CHECK(jitney_card_buffer(card, 4096, &options, &none) < 0);
    own = piece(buffer, 4000, 97, 0);
    CHECK(jitney_channel_run(h2c, &own, 1, SOON, NULL) < 0);
    own = piece(buffer, 1, UINT64_MAX, 0);
    FAILS(jitney_channel_run(h2c, &own, 1, SOON, NULL), ERANGE);
    own = piece(buffer, UINT64_MAX, 0, 0);
    CHECK(jitney_channel_run(h2c, &own, 1, SOON, NULL) < 0);
    own = piece(buffer, 0, 0, UINT64_MAX);
    CHECK(jitney_channel_run(h2c, &own, 1, SOON, NULL) < 0);
    FAILS(jitney_channel_run(h2c, NULL, 1, SOON, NULL), EINVAL);
    FAILS(jitney_channel_run(h2c, &own, SIZE_MAX, SOON, NULL), EINVAL);
    FAILS(jitney_channel_submit(h2c, &own, 1, NULL), EINVAL);
    FAILS(jitney_channel_write(h2c, NULL, 1, 0), EINVAL);
    FAILS(jitney_channel_write(h2c, "x", SIZE_MAX, 0), EINVAL);
    CHECK(jitney_channel_write(h2c, "x", 0, 0) < 0);
    CHECK(jitney_channel_write(h2c, "abcd", 4, UINT64_MAX - 1) < 0);
    FAILS(jitney_channel_write(c2h, "x", 1, 0), EINVAL);
    FAILS(jitney_channel_read(h2c, &own, 1, 0), EINVAL);
    FAILS(jitney_channel_read(c2h, NULL, 1, 0), EINVAL);
    FAILS(jitney_channel_open(card, NULL, NULL, NULL), EINVAL);
    FAILS(jitney_channel_open(card, "h2c99999", NULL, NULL), ENOENT);
    FAILS(jitney_channel_open(card, "", NULL, NULL), ENOENT);
    FAILS(jitney_channel_open(card, "\xff\xfe", NULL, NULL), EINVAL);
    FAILS(jitney_registers_open(card, NULL, NULL), EINVAL);
    FAILS(jitney_registers_open(card, "bar9", NULL), ENOENT);
    FAILS(jitney_registers_open(card, "bar99999999999999999999", NULL), ENOENT);
    FAILS(jitney_lease_take(card, NULL, 0, 0, NULL), EINVAL);
    FAILS(jitney_lease_take(card, "No Such Name", 0, 0, NULL), EINVAL);
    FAILS(jitney_lease_take(card, "x", 0xff, 0, NULL), EINVAL);
    FAILS(jitney_card_sensors(card, NULL, 1), EINVAL);
    CHECK(jitney_card_sensors(card, NULL, SIZE_MAX) < 0);
    FAILS(jitney_card_set_routes(card, NULL, 4), EINVAL);
    FAILS(jitney_interrupt_line(card, 99, NULL), EINVAL);
    CHECK(jitney_interrupt_vector(card, 65535, NULL) < 0);
    /* What there is no place for nobody has. */
    FAILS(jitney_lease_take(card, "filter", 0, 0, NULL), EINVAL);
    CHECK(jitney_lease_take(card, "filter", 0, 0, &lease) == 0 && jitney_lease_free(lease) == 0);
    FAILS(jitney_registers_open(card, "bar0", NULL), EINVAL);
    FAILS(jitney_card_buffer(card, 4096, NULL, NULL), EINVAL);
    /* Nobody wants the result: it is made, and no more can be said. */
    CHECK(jitney_card_describe(card, NULL) == 0 && jitney_card_board(card, NULL) == 0);
    CHECK(jitney_buffer_describe(buffer, NULL) == 0 && jitney_registers_open(card, "bar0", &bar) == 0);
    CHECK(jitney_registers_read32(bar, 0, NULL) == 0 && jitney_registers_free(bar) == 0);
    CHECK(jitney_buffer_free(buffer) == 0 && jitney_channel_free(h2c) == 0 && jitney_channel_free(c2h) == 0);
    CHECK(jitney_card_free(card) == 0);
}

static void memory_freed_in_the_middle(void)
{
    jitney_card *card = loopback();
    jitney_channel *c2h;
    jitney_buffer *buffer;
    jitney_transfer *transfer;
    CHECK(jitney_channel_open(card, "c2h0", NULL, &c2h) == 0 && jitney_card_buffer(card, 4096, NULL, &buffer) == 0);
    jitney_piece all = piece(buffer, 0, 0, 0);
    CHECK(jitney_channel_submit(c2h, &all, 1, &transfer) == 0);
    FAILS(jitney_buffer_free(buffer), EBUSY);
    /* Its memory was handed out: the handle goes, and the memory when the transfer does. */
    CHECK(jitney_buffer_fd(buffer) >= 0);
    CHECK(jitney_buffer_free(buffer) == 0);
    FAILS(jitney_buffer_free(buffer), EBADF);
    CHECK(jitney_transfer_free(transfer) == 0 && jitney_channel_free(c2h) == 0 && jitney_card_free(card) == 0);
}

static jitney_card *shared;
static jitney_stream *stream;
static jitney_transfer *pending;

static void *reads(void *unused)
{
    char data[4096];
    (void)unused;
    FAILS(jitney_stream_read(stream, data, sizeof data, -1, NULL), EBADF);
    return NULL;
}

static void *waits(void *unused)
{
    (void)unused;
    FAILS(jitney_transfer_wait(pending, -1, NULL), EBADF);
    return NULL;
}

static void freed_while_another_waits(void)
{
    pthread_t reader, waiter;
    jitney_capture_options options;
    jitney_channel *c2h;
    jitney_buffer *buffer;
    shared = loopback();
    memset(&options, 0, sizeof options);
    options.block_size = 4096;
    CHECK(jitney_stream_capture(shared, "c2h0", NULL, &options, &stream) == 0);
    CHECK(jitney_channel_open(shared, "c2h1", NULL, &c2h) == 0);
    CHECK(jitney_card_buffer(shared, 4096, NULL, &buffer) == 0);
    jitney_piece all = piece(buffer, 0, 0, 0);
    CHECK(jitney_channel_submit(c2h, &all, 1, &pending) == 0);
    CHECK(pthread_create(&reader, NULL, reads, NULL) == 0 && pthread_create(&waiter, NULL, waits, NULL) == 0);
    pause_ms(100);
    CHECK(jitney_stream_free(stream) == 0 && jitney_transfer_free(pending) == 0);
    CHECK(pthread_join(reader, NULL) == 0 && pthread_join(waiter, NULL) == 0);
    CHECK(jitney_channel_free(c2h) == 0 && jitney_card_free(shared) == 0);
    CHECK(jitney_buffer_free(buffer) == 0);
}

static jitney_buffer *contested;

static void *frees(void *freed)
{
    int outcome;
    for (int i = 0; i < 200; i++) {
        jitney_buffer_info info;
        (void)jitney_buffer_describe(contested, &info);
    }
    while ((outcome = jitney_buffer_free(contested)) == -EBUSY)
        ;
    __atomic_add_fetch((int *)freed, outcome == 0, __ATOMIC_SEQ_CST);
    return NULL;
}

static void two_threads_free_one_handle(void)
{
    jitney_card *card = emulated("nitefury");
    for (int round = 0; round < 20; round++) {
        pthread_t threads[4];
        int freed = 0;
        CHECK(jitney_card_buffer(card, 4096, NULL, &contested) == 0);
        for (int i = 0; i < 4; i++)
            CHECK(pthread_create(&threads[i], NULL, frees, &freed) == 0);
        for (int i = 0; i < 4; i++)
            CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(freed == 1);
        FAILS(jitney_buffer_free(contested), EBADF);
    }
    CHECK(jitney_card_free(card) == 0);
}

static const char *self;

/* A program of its own: ends with everything under way. */
static int leave(void)
{
    jitney_card *card = loopback();
    jitney_channel *c2h;
    jitney_buffer *buffer;
    jitney_stream *capture;
    jitney_lease *lease;
    jitney_transfer *transfer;
    CHECK(jitney_channel_open(card, "c2h0", NULL, &c2h) == 0 && jitney_card_buffer(card, 4096, NULL, &buffer) == 0);
    jitney_piece all = piece(buffer, 0, 0, 0);
    CHECK(jitney_channel_submit(c2h, &all, 1, &transfer) == 0 && jitney_transfer_fd(transfer) >= 0);
    CHECK(jitney_stream_capture(card, "c2h1", NULL, NULL, &capture) == 0 && jitney_stream_fd(capture) >= 0);
    CHECK(jitney_lease_take(card, "mine", JITNEY_LEASE_LATER, -1, &lease) == 0 && jitney_lease_fd(lease) >= 0);
    return 0;
}

static void exit_in_the_middle(void)
{
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        execl(self, self, "--leave", (char *)NULL);
        _exit(127);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static const struct test TESTS[] = {
    {"no_handle_at_all", no_handle_at_all},
    {"freed_handles", freed_handles},
    {"null_and_huge", null_and_huge},
    {"memory_freed_in_the_middle", memory_freed_in_the_middle},
    {"freed_while_another_waits", freed_while_another_waits},
    {"two_threads_free_one_handle", two_threads_free_one_handle},
    {"exit_in_the_middle", exit_in_the_middle},
};

int main(int argc, char **argv)
{
    self = argv[0];
    if (argc == 2 && strcmp(argv[1], "--leave") == 0)
        return leave();
    return run_tests(TESTS, sizeof TESTS / sizeof *TESTS, argc, argv);
}
