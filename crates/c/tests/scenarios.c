/* The scenarios of crates/faces/scenarios.txt by the C library. JITNEY_COMMAND names the command `jitney`, which is the broker. */

#include "test.h"

static const char *self;

/* Another process: `program` with up to eight arguments. Its output comes from `*output`. */
static pid_t start(FILE **output, const char *program, const char *const *arguments)
{
    const char *words[10] = {program};
    int ends[2];
    for (int i = 0; i < 8 && arguments[i]; i++)
        words[i + 1] = arguments[i];
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        execv(program, (char *const *)words);
        _exit(127);
    }
    close(ends[1]);
    *output = fdopen(ends[0], "r");
    CHECK(*output);
    return pid;
}

static void await_line(FILE *output, const char *beginning)
{
    char line[512];
    do
        CHECK(fgets(line, sizeof line, output));
    while (strncmp(line, beginning, strlen(beginning)) != 0);
}

static void end(pid_t pid, FILE *output)
{
    int status;
    kill(pid, SIGTERM);
    CHECK(waitpid(pid, &status, 0) == pid);
    fclose(output);
}

/* A broker that has an emulated board. */
struct broker {
    char folder[64], socket[80];
    pid_t pid;
    FILE *output;
    jitney_bus *bus;
    jitney_card *card;
};

static const char *command(void)
{
    const char *found = getenv("JITNEY_COMMAND");
    CHECK(found && "JITNEY_COMMAND names the command jitney");
    return found;
}

/* One of two boards, of which no card is open yet. */
static struct broker begin_two(const char *board, const char *second)
{
    struct broker own;
    jitney_bus_options options;
    memset(&own, 0, sizeof own);
    strcpy(own.folder, "/tmp/jitney-c-XXXXXX");
    CHECK(mkdtemp(own.folder));
    snprintf(own.socket, sizeof own.socket, "%s/b.sock", own.folder);
    const char *arguments[] = {"broker", "--socket", own.socket, "--emulate", board, second ? "--emulate" : NULL, second, NULL};
    own.pid = start(&own.output, command(), arguments);
    await_line(own.output, "listening");
    memset(&options, 0, sizeof options);
    options.broker = own.socket;
    CHECK(jitney_bus_open(&options, &own.bus) == 0);
    return own;
}

static struct broker begin(const char *board)
{
    struct broker own = begin_two(board, NULL);
    CHECK(jitney_card_open(own.bus, NULL, &own.card) == 0);
    return own;
}

static void finish(struct broker *own)
{
    CHECK(jitney_card_free(own->card) == 0 && jitney_bus_free(own->bus) == 0);
    end(own->pid, own->output);
    unlink(own->socket);
    rmdir(own->folder);
}

/* Another program at the broker: has a lease on a part until it is told to end. */
static int hold(const char *socket, const char *part)
{
    jitney_bus *bus;
    jitney_card *card;
    jitney_lease *lease;
    jitney_bus_options options;
    memset(&options, 0, sizeof options);
    options.broker = socket;
    CHECK(jitney_bus_open(&options, &bus) == 0 && jitney_card_open(bus, NULL, &card) == 0);
    CHECK(jitney_lease_take(card, part, 0, 0, &lease) == 0);
    printf("has it\n");
    fflush(stdout);
    for (;;)
        pause();
}

static void identify_a_board(void)
{
    jitney_card *card = emulated("nitefury");
    jitney_board board;
    jitney_card_info info;
    CHECK(jitney_card_board(card, &board) == 0);
    CHECK(strcmp(board.name, "NiteFury") == 0 && board.version == 2);
    CHECK(board.memory_count > 0 && board.memories[0].size > 0 && strcmp(board.memories[0].kind, "ddr") == 0);
    CHECK(jitney_card_describe(card, &info) == 0);
    CHECK(info.vendor == 0x10ee && info.device == 0x7011 && info.bars[0] > 0 && info.vectors > 0);
    CHECK(jitney_card_channels(card, NULL, 0) > 0);
    CHECK(jitney_card_free(card) == 0);
}

static void card_chosen(void)
{
    struct broker own = begin_two("nitefury", "litefury");
    jitney_card_info infos[2], info;
    jitney_card *card;
    jitney_board board;
    char selector[300];
    CHECK(jitney_bus_cards(own.bus, infos, 2) == 2 && infos[0].serial == 0);
    CHECK(jitney_card_open(own.bus, "LiteFury", &card) == 0);
    CHECK(jitney_card_board(card, &board) == 0 && strcmp(board.name, "LiteFury") == 0);
    CHECK(jitney_card_describe(card, &info) == 0 && info.serial == 0x101000a35);
    CHECK(jitney_card_free(card) == 0);
    /* Both have this number; NULL is for the only one. */
    snprintf(selector, sizeof selector, "serial:00-00-00-01-01-00-0a-35");
    for (int i = 0; i < 2; i++) {
        FAILS(jitney_card_open(own.bus, i ? NULL : selector, &card), ENOENT);
        for (int j = 0; j < 2; j++)
            CHECK(strstr(jitney_last_error()->what, infos[j].address));
        CHECK(strstr(jitney_last_error()->remedy, "by its address"));
    }
    FAILS(jitney_card_open(own.bus, "serial:00-00-00-00-00-00-00-07", &card), ENOENT);
    CHECK(strstr(jitney_last_error()->what, infos[0].address));
    FAILS(jitney_card_open(own.bus, "serial:7", &card), EINVAL);
    FAILS(jitney_card_open(own.bus, "no-such-board", &card), ENOENT);
    CHECK(jitney_card_open(own.bus, infos[1].address, &own.card) == 0);
    finish(&own);
}

static void cards_come_and_go(void)
{
    struct broker own;
    jitney_bus_options options;
    jitney_bus *bus;
    jitney_watch *watch;
    jitney_card_info info;
    jitney_card *card;
    char place[100], address[120];
    memset(&own, 0, sizeof own);
    strcpy(own.folder, "/tmp/jitney-c-XXXXXX");
    CHECK(mkdtemp(own.folder));
    snprintf(own.socket, sizeof own.socket, "%s/b.sock", own.folder);
    snprintf(place, sizeof place, "%s/later.sock", own.folder);
    snprintf(address, sizeof address, "vfio-user:%s", place);
    const char *broker[] = {"broker", "--socket", own.socket, "--on-demand", "--card", address, NULL};
    own.pid = start(&own.output, command(), broker);
    await_line(own.output, "listening");
    memset(&options, 0, sizeof options);
    options.broker = own.socket;
    CHECK(jitney_bus_open(&options, &bus) == 0 && jitney_bus_cards(bus, NULL, 0) == 0);
    CHECK(jitney_watch_open(bus, &watch) == 0 && jitney_watch_next(watch, &info, 0) == 0);
    struct pollfd readable = {jitney_watch_fd(watch), POLLIN, 0};
    const char *board[] = {"emulate", "nitefury", "--socket", place, NULL};
    FILE *output;
    pid_t pid = start(&output, command(), board);
    await_line(output, "serving");
    int found;
    do
        CHECK(poll(&readable, 1, SOON) == 1);
    while ((found = jitney_watch_next(watch, &info, 0)) == 0);
    CHECK(found == 1 && strcmp(info.address, address) == 0 && info.device == 0x7011);
    CHECK(jitney_card_open(bus, "nitefury", &card) == 0 && jitney_card_free(card) == 0);
    end(pid, output);
    CHECK(jitney_watch_next(watch, &info, SOON) == 2 && strcmp(info.address, address) == 0);
    CHECK(jitney_bus_cards(bus, NULL, 0) == 0);
    CHECK(jitney_watch_free(watch) == 0 && jitney_bus_free(bus) == 0);
    FAILS(jitney_watch_next(watch, &info, 0), EBADF);
    end(own.pid, own.output);
    unlink(own.socket);
    rmdir(own.folder);
}

static void register_by_name(void)
{
    jitney_card *card = emulated("nitefury");
    jitney_registers *xdma, *gpio;
    uint64_t offset, wide;
    uint32_t value;
    CHECK(jitney_registers_open(card, "xdma", &xdma) == 0);
    CHECK(jitney_registers_find(xdma, "h2c0.identifier", &offset) == 0);
    CHECK(jitney_registers_read32(xdma, offset, &value) == 0 && value >> 20 == 0x1fc);
    FAILS(jitney_registers_find(xdma, "no-such", &offset), ENOENT);
    CHECK(strstr(jitney_last_error()->what, "h2c0.identifier"));
    CHECK(jitney_registers_find(xdma, "irq.user_enable", &offset) == 0);
    CHECK(jitney_registers_write32(xdma, offset, 5) == 0);
    CHECK(jitney_registers_read(xdma, offset, 32, &wide) == 0 && wide == 5);
    CHECK(jitney_registers_write(xdma, offset, 32, 0) == 0);
    FAILS(jitney_registers_write(xdma, offset, 8, 256), EINVAL);
    FAILS(jitney_registers_read(xdma, offset, 7, &wide), EINVAL);
    FAILS(jitney_registers_open(card, "nothing", &gpio), ENOENT);
    CHECK(jitney_registers_free(xdma) == 0 && jitney_card_free(card) == 0);
}

static void register_out_of_range(void)
{
    jitney_card *card = emulated("nitefury");
    jitney_registers *bar;
    uint64_t size;
    uint32_t value = 7;
    CHECK(jitney_registers_open(card, "bar0", &bar) == 0 && jitney_registers_size(bar, &size) == 0);
    FAILS(jitney_registers_read32(bar, size, &value), ERANGE);
    FAILS(jitney_registers_read32(bar, UINT64_MAX - 1, &value), ERANGE);
    FAILS(jitney_registers_write32(bar, size - 2, 0), ERANGE);
    FAILS(jitney_registers_read32(bar, 2, &value), EINVAL);
    CHECK(value == 7 && jitney_registers_read32(bar, size - 4, &value) == 0);
    CHECK(jitney_registers_free(bar) == 0 && jitney_card_free(card) == 0);
}

static void link_down(void)
{
    jitney_card *card = emulated("nitefury");
    jitney_registers *bar;
    jitney_channel *channel;
    uint32_t value;
    CHECK(jitney_registers_open(card, "bar0", &bar) == 0);
    CHECK(jitney_channel_open(card, "h2c0", NULL, &channel) == 0);
    CHECK(jitney_emulated_inject(card, "link-down") == 0);
    CHECK(jitney_registers_read32(bar, 0, &value) == 0 && value == UINT32_MAX);
    CHECK(jitney_channel_write(channel, "abcd", 4, 0) < 0);
    CHECK(jitney_last_error()->kind == JITNEY_ERROR_KIND_LINK_DOWN);
    FAILS(jitney_emulated_inject(card, "no-such"), EINVAL);
    CHECK(jitney_channel_free(channel) == 0 && jitney_registers_free(bar) == 0);
    CHECK(jitney_card_free(card) == 0);
}

/* What all programs do, whoever owns the card. */
static void move_bytes(jitney_card *card)
{
    jitney_channel *h2c, *c2h;
    jitney_buffer *buffer;
    jitney_completed done;
    char text[32] = "";
    CHECK(jitney_channel_open(card, "h2c0", NULL, &h2c) == 0);
    CHECK(jitney_channel_open(card, "c2h0", NULL, &c2h) == 0);
    CHECK(jitney_card_buffer(card, 1 << 20, NULL, &buffer) == 0);
    char *bytes = (char *)jitney_buffer_pointer(buffer);
    CHECK(bytes);
    for (int i = 0; i < 1 << 20; i++)
        bytes[i] = (char)(i * 7 + (i >> 8));
    jitney_piece all = piece(buffer, 0, 0, 0x1000);
    CHECK(jitney_channel_run(h2c, &all, 1, SOON, &done) == 0 && done.bytes == 1 << 20);
    memset(bytes, 0, 1 << 20);
    CHECK(jitney_channel_run(c2h, &all, 1, -1, NULL) == 0);
    for (int i = 0; i < 1 << 20; i++)
        CHECK(bytes[i] == (char)(i * 7 + (i >> 8)));
    CHECK(jitney_channel_write(h2c, "any memory", 11, 0x300000) == 0);
    CHECK(jitney_channel_read(c2h, text, 11, 0x300000) == 0 && strcmp(text, "any memory") == 0);
    CHECK(jitney_buffer_free(buffer) == 0);
    CHECK(jitney_channel_free(h2c) == 0 && jitney_channel_free(c2h) == 0);
}

static void written_and_read_back(void)
{
    jitney_card *card = emulated("nitefury");
    move_bytes(card);
    CHECK(jitney_card_free(card) == 0);
}

static void gather(void)
{
    jitney_card *card = emulated("nitefury");
    jitney_channel *h2c, *c2h;
    jitney_buffer *first, *second;
    jitney_completed done;
    char text[9] = "";
    CHECK(jitney_channel_open(card, "h2c0", NULL, &h2c) == 0);
    CHECK(jitney_channel_open(card, "c2h0", NULL, &c2h) == 0);
    CHECK(jitney_card_buffer(card, 4096, NULL, &first) == 0);
    CHECK(jitney_card_buffer(card, 4096, NULL, &second) == 0);
    memcpy((char *)jitney_buffer_pointer(first) + 100, "one ", 4);
    memcpy(jitney_buffer_pointer(second), "two", 4);
    jitney_piece pieces[2] = {piece(first, 100, 4, 0), piece(second, 0, 4, 4)};
    CHECK(jitney_channel_run(h2c, pieces, 2, SOON, &done) == 0 && done.bytes == 8 && done.descriptors == 2);
    CHECK(jitney_channel_read(c2h, text, 8, 0) == 0 && strcmp(text, "one two") == 0);
    FAILS(jitney_channel_run(h2c, pieces, 0, SOON, NULL), EINVAL);
    CHECK(jitney_buffer_free(first) == 0 && jitney_buffer_free(second) == 0);
    CHECK(jitney_channel_free(h2c) == 0 && jitney_channel_free(c2h) == 0 && jitney_card_free(card) == 0);
}

static void in_flight_and_polled(void)
{
    for (uint32_t wait = JITNEY_WAIT_POLL; wait <= JITNEY_WAIT_ADAPTIVE; wait++) {
        jitney_card *card = emulated("nitefury");
        jitney_channel_options options;
        jitney_channel *h2c;
        jitney_buffer *buffer;
        jitney_transfer *transfers[4];
        jitney_completed done;
        memset(&options, 0, sizeof options);
        options.wait = wait;
        CHECK(jitney_channel_open(card, "h2c0", &options, &h2c) == 0);
        CHECK(jitney_card_buffer(card, 4 << 20, NULL, &buffer) == 0);
        for (uint64_t i = 0; i < 4; i++) {
            jitney_piece own = piece(buffer, i << 20, 1 << 20, i << 20);
            CHECK(jitney_channel_submit(h2c, &own, 1, &transfers[i]) == 0);
        }
        for (int i = 3; i >= 0; i--) {
            int fd = jitney_transfer_fd(transfers[i]), outcome;
            CHECK(fd >= 0);
            while ((outcome = jitney_transfer_wait(transfers[i], 0, &done)) == 0)
                CHECK(readable(fd, SOON) == 1);
            CHECK(outcome == 1 && done.bytes == 1 << 20);
            CHECK(readable(jitney_transfer_fd(transfers[i]), 0) == 1);
            CHECK(jitney_transfer_wait(transfers[i], -1, NULL) == 1 && jitney_transfer_cancel(transfers[i]) == 0);
            CHECK(jitney_transfer_free(transfers[i]) == 0);
        }
        CHECK(jitney_channel_free(h2c) == 0 && jitney_buffer_free(buffer) == 0 && jitney_card_free(card) == 0);
    }
}

static void cancelled(void)
{
    jitney_card *card = loopback();
    jitney_channel *c2h;
    jitney_buffer *buffer;
    jitney_transfer *transfer;
    jitney_completed done;
    CHECK(jitney_channel_open(card, "c2h0", NULL, &c2h) == 0);
    CHECK(jitney_card_buffer(card, 4096, NULL, &buffer) == 0);
    jitney_piece all = piece(buffer, 0, 0, 0);
    CHECK(jitney_channel_submit(c2h, &all, 1, &transfer) == 0);
    CHECK(jitney_transfer_wait(transfer, 10, &done) == 0 && readable(jitney_transfer_fd(transfer), 0) >= 0);
    FAILS(jitney_buffer_free(buffer), EBUSY);
    CHECK(jitney_last_error()->kind == JITNEY_ERROR_KIND_HELD);
    CHECK(jitney_transfer_cancel(transfer) == 1 && jitney_transfer_cancel(transfer) == 0);
    FAILS(jitney_transfer_wait(transfer, 0, &done), ECANCELED);
    FAILS(jitney_transfer_wait(transfer, -1, &done), ECANCELED);
    FAILS(jitney_channel_run(c2h, &all, 1, 10, &done), ETIMEDOUT);
    CHECK(jitney_transfer_free(transfer) == 0 && jitney_buffer_free(buffer) == 0);
    CHECK(jitney_channel_free(c2h) == 0 && jitney_card_free(card) == 0);
}

static void stream_packet(void)
{
    jitney_card *card = loopback();
    jitney_channel *h2c, *c2h;
    jitney_buffer *buffer;
    jitney_completed done;
    char packet[192];
    memset(packet, 'p', sizeof packet);
    CHECK(jitney_channel_open(card, "h2c0", NULL, &h2c) == 0 && jitney_channel_open(card, "c2h0", NULL, &c2h) == 0);
    CHECK(jitney_card_buffer(card, 4096, NULL, &buffer) == 0);
    jitney_piece all = piece(buffer, 0, 0, 0);
    CHECK(jitney_channel_write(h2c, packet, sizeof packet, 0) == 0);
    CHECK(jitney_channel_run(c2h, &all, 1, SOON, &done) == 0 && done.bytes == sizeof packet && done.ends_packet);
    CHECK(memcmp(jitney_buffer_pointer(buffer), packet, sizeof packet) == 0);
    CHECK(jitney_channel_free(h2c) == 0 && jitney_channel_free(c2h) == 0 && jitney_buffer_free(buffer) == 0);
    CHECK(jitney_card_free(card) == 0);
}

static void capture(void)
{
    for (uint32_t overrun = JITNEY_OVERRUN_WAIT; overrun <= JITNEY_OVERRUN_OVERWRITE; overrun++) {
        jitney_card *card = loopback();
        jitney_capture_options options;
        jitney_channel *h2c;
        jitney_stream *stream;
        jitney_block block;
        size_t size;
        char data[4096];
        memset(&options, 0, sizeof options);
        options.blocks = 16;
        options.block_size = sizeof data;
        options.overrun = overrun;
        CHECK(jitney_channel_open(card, "h2c0", NULL, &h2c) == 0);
        CHECK(jitney_stream_capture(card, "c2h0", NULL, &options, &stream) == 0);
        CHECK(jitney_stream_block_size(stream, &size) == 0 && size == sizeof data);
        CHECK(jitney_stream_read(stream, data, sizeof data, 0, &block) == 0);
        FAILS(jitney_stream_read(stream, data, sizeof data - 1, 0, &block), EINVAL);
        int fd = -1;
        for (int number = 0; number < 20; number++) {
            memset(data, number, sizeof data);
            CHECK(jitney_channel_write(h2c, data, sizeof data, 0) == 0);
            if (number == 10)
                CHECK((fd = jitney_stream_fd(stream)) >= 0);
            if (fd >= 0)
                CHECK(readable(fd, SOON) == 1);
            CHECK(jitney_stream_read(stream, data, sizeof data, SOON, &block) == 1);
            CHECK(block.number == (uint64_t)number && block.lost == 0 && block.bytes == sizeof data);
            CHECK(data[0] == number && data[sizeof data - 1] == number);
        }
        CHECK(readable(fd, 0) == 0);
        CHECK(jitney_stream_free(stream) == 0 && jitney_channel_free(h2c) == 0 && jitney_card_free(card) == 0);
    }
}

static void ring_read(void)
{
    struct broker own = begin(LOOPBACK);
    jitney_card_info info;
    jitney_channel *h2c;
    jitney_stream *ring;
    jitney_block block;
    FILE *output;
    char data[4096];
    int inputs[8] = {0, 1, 2, 3, 4, 5, 6, 7}, channels = jitney_card_channels(own.card, NULL, 0), outcome;
    CHECK(jitney_card_set_routes(own.card, inputs, (size_t)channels / 2) == 0);
    CHECK(jitney_card_describe(own.card, &info) == 0);
    const char *arguments[] = {"capture", info.address, "--share=samples", "--block=4096", "--blocks=256", "--packets=50", NULL};
    setenv("JITNEY_BROKER", own.socket, 1);
    pid_t writer = start(&output, command(), arguments);
    unsetenv("JITNEY_BROKER");
    for (int i = 0; (outcome = jitney_stream_ring(own.bus, "samples", &ring)) == -ENOENT; i++) {
        CHECK(i < SOON / 20);
        pause_ms(20);
    }
    CHECK(outcome == 0 && jitney_stream_read(ring, data, sizeof data, 10, &block) == 0);
    int fd = jitney_stream_fd(ring);
    CHECK(fd >= 0 && jitney_channel_open(own.card, "h2c0", NULL, &h2c) == 0);
    for (int number = 0; number < 50; number++) {
        memset(data, number, sizeof data);
        CHECK(jitney_channel_write(h2c, data, sizeof data, 0) == 0);
        CHECK(readable(fd, SOON) == 1);
        CHECK(jitney_stream_read(ring, data, sizeof data, SOON, &block) == 1);
        CHECK(block.number == (uint64_t)number && block.lost == 0 && data[0] == number);
    }
    CHECK(readable(fd, SOON) == 1);
    FAILS(jitney_stream_read(ring, data, sizeof data, SOON, &block), EBADF);
    CHECK(strstr(jitney_last_error()->what, "the ring"));
    CHECK(jitney_stream_free(ring) == 0 && jitney_channel_free(h2c) == 0);
    end(writer, output);
    finish(&own);
}

static void *raise_line(void *card)
{
    pause_ms(30);
    CHECK(jitney_emulated_set_interrupt((jitney_card *)card, 0, 1) == 0);
    return NULL;
}

static void interrupt(void)
{
    jitney_card *card = emulated("nitefury");
    jitney_interrupt *line, *other;
    pthread_t thread;
    CHECK(jitney_interrupt_line(card, 0, &line) == 0);
    FAILS(jitney_interrupt_line(card, 0, &other), EBUSY);
    CHECK(jitney_interrupt_wait(line, 0) == 0);
    CHECK(pthread_create(&thread, NULL, raise_line, card) == 0);
    CHECK(jitney_interrupt_wait(line, SOON) == 1);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(jitney_emulated_set_interrupt(card, 0, 0) == 0);
    CHECK(jitney_interrupt_wait(line, 0) == 0);
    int fd = jitney_interrupt_fd(line);
    CHECK(fd >= 0 && readable(fd, 10) == 0);
    CHECK(jitney_emulated_set_interrupt(card, 0, 1) == 0);
    CHECK(readable(fd, SOON) == 1 && jitney_interrupt_wait(line, 0) == 1);
    CHECK(jitney_interrupt_free(line) == 0);
    CHECK(jitney_interrupt_vector(card, 0, &line) == 0 && jitney_interrupt_wait(line, 1) == 0);
    CHECK(jitney_interrupt_fd(line) >= 0 && jitney_interrupt_free(line) == 0 && jitney_card_free(card) == 0);
}

static void sensor(void)
{
    jitney_card *card = emulated("nitefury");
    jitney_reading readings[32];
    int count = jitney_card_sensors(card, readings, 32), found = 0;
    CHECK(count > 0 && count <= 32 && jitney_card_sensors(card, NULL, 0) == count);
    for (int i = 0; i < count; i++) {
        if (strcmp(readings[i].quantity, "temperature") == 0)
            found += readings[i].now > 0 && readings[i].now < 120 && strlen(readings[i].unit) > 0;
    }
    CHECK(found > 0 && jitney_card_free(card) == 0);
}

static void held_names_the_holder(void)
{
    struct broker own = begin("nitefury");
    jitney_lease *lease;
    jitney_channel *channel;
    FILE *output;
    char pid[32];
    const char *arguments[] = {"--hold", own.socket, "h2c0", NULL};
    pid_t other = start(&output, self, arguments);
    await_line(output, "has it");
    snprintf(pid, sizeof pid, "pid %d (", (int)other);
    FAILS(jitney_lease_take(own.card, "h2c0", 0, 0, &lease), EBUSY);
    CHECK(strncmp(jitney_last_error()->holder, pid, strlen(pid)) == 0);
    FAILS(jitney_channel_open(own.card, "h2c0", NULL, &channel), EBUSY);
    CHECK(jitney_last_error()->kind == JITNEY_ERROR_KIND_HELD && strstr(jitney_last_error()->json, pid));
    end(other, output);
    finish(&own);
}

static void lease_waited_for(void)
{
    struct broker own = begin("nitefury");
    jitney_lease *lease, *second;
    FILE *output;
    const char *arguments[] = {"--hold", own.socket, "filter", NULL};
    pid_t other = start(&output, self, arguments);
    await_line(output, "has it");
    CHECK(jitney_lease_take(own.card, "filter", JITNEY_LEASE_LATER, -1, &lease) == 0);
    int fd = jitney_lease_fd(lease);
    CHECK(fd >= 0 && jitney_lease_wait(lease, 10) == 0 && readable(fd, 10) == 0);
    CHECK(jitney_lease_take(own.card, "filter", 0, 10, &second) < 0);
    end(other, output);
    CHECK(readable(fd, SOON) == 1 && jitney_lease_wait(lease, 0) == 1 && jitney_lease_wait(lease, -1) == 1);
    CHECK(readable(jitney_lease_fd(lease), 0) == 1);
    /* It would wait for itself. */
    CHECK(jitney_lease_take(own.card, "filter", 0, -1, &second) < 0);
    CHECK(jitney_last_error()->kind == JITNEY_ERROR_KIND_HELD && jitney_last_error()->remedy);
    CHECK(jitney_lease_free(lease) == 0);
    CHECK(jitney_lease_take(own.card, "filter", JITNEY_LEASE_SHARED, -1, &lease) == 0);
    CHECK(jitney_lease_take(own.card, "filter", JITNEY_LEASE_SHARED, -1, &second) == 0);
    CHECK(jitney_lease_free(lease) == 0 && jitney_lease_free(second) == 0);
    finish(&own);
}

static void flash_info(void)
{
    jitney_card *card = emulated("nitefury");
    jitney_flash *flash;
    jitney_flash_info info;
    unsigned char data[300];
    CHECK(jitney_flash_open(card, &flash) == 0 && jitney_flash_describe(flash, &info) == 0);
    CHECK(info.size > 0 && info.sector > 0 && info.page > 0 && strlen(info.maker) > 0 && info.id[0] != 0);
    CHECK(jitney_flash_read(flash, 1, data, sizeof data) == 0 && data[0] == 0xff && data[299] == 0xff);
    FAILS(jitney_flash_read(flash, info.size - 1, data, 2), ERANGE);
    FAILS(jitney_flash_read(flash, 0, data, SIZE_MAX), ERANGE);
    CHECK(jitney_flash_free(flash) == 0 && jitney_card_free(card) == 0);
}

static void emulated_in_process(void)
{
    jitney_card *first = emulated("nitefury"), *second = emulated("nitefury"), *none;
    jitney_emulated_options options;
    move_bytes(first);
    CHECK(jitney_card_free(first) == 0);
    move_bytes(second);
    CHECK(jitney_card_free(second) == 0);
    memset(&options, 0, sizeof options);
    options.board = "no-such-board";
    FAILS(jitney_card_emulate(&options, &none), ENOENT);
    FAILS(jitney_card_emulate(NULL, &none), EINVAL);
}

static void error_has_errno_and_remedy(void)
{
    jitney_bus_options options;
    jitney_bus *bus;
    memset(&options, 0, sizeof options);
    options.broker = "/nowhere/at/all.sock";
    FAILS(jitney_bus_open(&options, &bus), ENOENT);
    const jitney_error *error = jitney_last_error();
    CHECK(strcmp(error->errno_name, "ENOENT") == 0 && strstr(error->what, "/nowhere/at/all.sock"));
    CHECK(strstr(error->remedy, "jitney broker --socket") && strstr(error->json, "\"errno\":\"ENOENT\""));
    CHECK(error->holder == NULL && strstr(error->json, "\"holder\":null") && strlen(error->kind_name) > 0);
    CHECK(jitney_abi_version() == JITNEY_ABI_VERSION && strchr(jitney_version(), '.'));
}

static void fork_refused(void)
{
    jitney_card *card = emulated("nitefury");
    jitney_buffer *buffer;
    jitney_card_info info;
    int status;
    CHECK(jitney_card_buffer(card, 4096, NULL, &buffer) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        FAILS(jitney_card_describe(card, &info), EPERM);
        CHECK(jitney_last_error()->kind == JITNEY_ERROR_KIND_FORKED);
        CHECK(strstr(jitney_last_error()->what, "was forked") && jitney_last_error()->remedy);
        CHECK(jitney_buffer_pointer(buffer) == NULL);
        FAILS(jitney_buffer_free(buffer), EPERM);
        FAILS(jitney_card_free(card), EPERM);
        /* One of its own. */
        card = emulated("nitefury");
        move_bytes(card);
        CHECK(jitney_card_free(card) == 0);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    move_bytes(card);
    CHECK(jitney_buffer_free(buffer) == 0 && jitney_card_free(card) == 0);
}

static void freed_in_any_order(void)
{
    struct broker own = begin("nitefury");
    for (int order = 0; order < 24; order++) {
        jitney_card *card;
        jitney_channel *h2c;
        jitney_buffer *buffer;
        jitney_transfer *transfer;
        int left[4] = {0, 1, 2, 3}, code = order;
        CHECK(jitney_card_open(own.bus, NULL, &card) == 0);
        CHECK(jitney_channel_open(card, "h2c0", NULL, &h2c) == 0);
        CHECK(jitney_card_buffer(card, 1 << 20, NULL, &buffer) == 0);
        jitney_piece all = piece(buffer, 0, 0, 0);
        CHECK(jitney_channel_submit(h2c, &all, 1, &transfer) == 0);
        for (int count = 4; count > 0; count--) {
            int which = code % count, what = left[which];
            code /= count;
            left[which] = left[count - 1];
            if (what == 0)
                CHECK(jitney_card_free(card) == 0);
            else if (what == 1)
                CHECK(jitney_channel_free(h2c) == 0);
            else if (what == 2)
                CHECK(jitney_transfer_wait(transfer, SOON, NULL) == 1 && jitney_transfer_free(transfer) == 0);
            else
                while (jitney_buffer_free(buffer) == -EBUSY)
                    CHECK(jitney_transfer_wait(transfer, SOON, NULL) == 1);
        }
    }
    jitney_registers *bar;
    uint32_t value;
    CHECK(jitney_registers_open(own.card, "bar0", &bar) == 0);
    CHECK(jitney_card_free(own.card) == 0 && jitney_bus_free(own.bus) == 0);
    CHECK(jitney_registers_read32(bar, 0, &value) == 0 && jitney_registers_free(bar) == 0);
    own.card = NULL;
    own.bus = NULL;
    finish(&own);
}

static void under_a_broker(void)
{
    struct broker own = begin("nitefury");
    jitney_card_info info;
    jitney_bus_options options;
    jitney_buffer *buffer, *attached;
    jitney_buffer_info here, there;
    jitney_bus *bus;
    CHECK(jitney_bus_broker(own.bus) == (int)own.pid);
    CHECK(jitney_bus_cards(own.bus, NULL, 0) == 1 && jitney_bus_cards(own.bus, &info, 1) == 1);
    CHECK(info.vendor == 0x10ee);
    move_bytes(own.card);
    memset(&options, 0, sizeof options);
    options.broker = own.socket;
    CHECK(jitney_bus_open(&options, &bus) == 0);
    CHECK(jitney_bus_buffer(own.bus, 4096, NULL, &buffer) == 0);
    CHECK(jitney_bus_share(own.bus, buffer, "mine", 1) == 0);
    CHECK(jitney_bus_attach(bus, "mine", &attached) == 0);
    CHECK(jitney_buffer_describe(buffer, &here) == 0 && jitney_buffer_describe(attached, &there) == 0);
    CHECK(here.iova == there.iova && here.pointer != there.pointer && jitney_buffer_fd(buffer) >= 0);
    strcpy((char *)here.pointer, "seen");
    CHECK(strcmp((char *)there.pointer, "seen") == 0);
    CHECK(jitney_buffer_free(buffer) == 0 && jitney_buffer_free(attached) == 0 && jitney_bus_free(bus) == 0);
    finish(&own);
}

static const struct test TESTS[] = {
    {"identify_a_board", identify_a_board},
    {"card_chosen", card_chosen},
    {"cards_come_and_go", cards_come_and_go},
    {"register_by_name", register_by_name},
    {"register_out_of_range", register_out_of_range},
    {"link_down", link_down},
    {"written_and_read_back", written_and_read_back},
    {"gather", gather},
    {"in_flight_and_polled", in_flight_and_polled},
    {"cancelled", cancelled},
    {"stream_packet", stream_packet},
    {"capture", capture},
    {"ring_read", ring_read},
    {"interrupt", interrupt},
    {"sensor", sensor},
    {"held_names_the_holder", held_names_the_holder},
    {"lease_waited_for", lease_waited_for},
    {"flash_info", flash_info},
    {"emulated_in_process", emulated_in_process},
    {"error_has_errno_and_remedy", error_has_errno_and_remedy},
    {"fork_refused", fork_refused},
    {"freed_in_any_order", freed_in_any_order},
    {"under_a_broker", under_a_broker},
};

int main(int argc, char **argv)
{
    self = argv[0];
    if (argc == 4 && strcmp(argv[1], "--hold") == 0)
        return hold(argv[2], argv[3]);
    return run_tests(TESTS, sizeof TESTS / sizeof *TESTS, argc, argv);
}
