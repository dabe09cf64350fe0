/* jitney for C and C++: PCIe cards from user space, several programs at once. docs/c.md is the first hour.

   This file is made of the library's source by `cargo xtask header`.

   Results
     A function returns 0 or more if it has done what it says, and a negative errno if not. jitney_last_error() says for the
     calling thread what went wrong, who has what was asked for, and what can be done. A result goes where the last parameter
     points; where that is NULL it goes nowhere, and nothing is written if a function fails.

   Handles
     What the library hands out has a function ..._free that takes NULL, too, and returns 0. A handle that was freed, of another
     type, or none at all is refused with -EBADF, NULL with -EINVAL; nothing is followed that may not be there. Handles are freed in
     any order: each keeps what it needs. A card stays open until it and all that was made of it is freed.

   Threads
     Every function may be called by every thread at any time, on the same handle, too. A thread that waits does not keep others
     from using the handle, and when another frees it the wait ends with -EBADF at once; jitney_channel_run, _read and _write
     and a jitney_lease_take that waits go on to their own end. No function calls back, and the library's own threads call
     nothing of the program's. In a signal's handler no function may be called.

   Waiting
     Times are in milliseconds as of poll(): 0 only looks, below 0 is as long as it takes. What can be waited for has a descriptor for
     poll(), too: when it is readable, look with a time of 0, and go on until there is nothing. Descriptors are the library's, which
     closes them when the handle is freed.

   Forks
     A child that was forked has no part in what its parent has: each function refuses it with -EPERM. It may open a bus of its own.
     Memory of buffers is shared with it all the same. */

#ifndef JITNEY_H
#define JITNEY_H

#include <stddef.h>
#include <stdint.h>

/**
 * The number of the interface: that of the header is `JITNEY_ABI_VERSION`. While the library's version is 0.x, each minor
 * version has an interface of its own.
 */
#define JITNEY_ABI_VERSION 1

/**
 * Pages of 4 KiB, for `pages` of jitney_buffer_options.
 */
#define JITNEY_PAGES_4K 0

/**
 * Huge pages of 2 MiB, which have to be reserved on the machine.
 */
#define JITNEY_PAGES_2M 1

/**
 * Huge pages of 1 GiB, likewise.
 */
#define JITNEY_PAGES_1G 2

/**
 * Who waits for a transfer looks again and again, for `wait` of jitney_channel_options.
 */
#define JITNEY_WAIT_POLL 0

/**
 * Who waits for a transfer sleeps until the card interrupts.
 */
#define JITNEY_WAIT_INTERRUPT 1

/**
 * Who waits for a transfer looks for as long as a short one takes, and then sleeps until the card interrupts.
 */
#define JITNEY_WAIT_ADAPTIVE 2

/**
 * The card waits when blocks come faster than they are read, for `overrun` of jitney_capture_options.
 */
#define JITNEY_OVERRUN_WAIT 0

/**
 * The oldest blocks are overwritten, and `lost` of jitney_block says how many.
 */
#define JITNEY_OVERRUN_OVERWRITE 1

/**
 * Others who also share may have a right on the same part, for `jitney_lease_take`.
 */
#define JITNEY_LEASE_SHARED 1

/**
 * `jitney_lease_take` does not wait: `jitney_lease_wait` and `jitney_lease_fd` do.
 */
#define JITNEY_LEASE_LATER 2

/**
 * What sort of failure it is, for programs that want to act on it.
 */
typedef enum jitney_error_kind {
  /**
   * Nothing has gone wrong yet.
   */
  JITNEY_ERROR_KIND_NONE,
  /**
   * A failure of no other kind.
   */
  JITNEY_ERROR_KIND_OTHER,
  /**
   * There is no such card, board, BAR, channel or register.
   */
  JITNEY_ERROR_KIND_NOT_FOUND,
  /**
   * Somebody else has it: see `holder`; or a transfer uses it.
   */
  JITNEY_ERROR_KIND_HELD,
  /**
   * The request itself is wrong: a size, an alignment, a name, NULL.
   */
  JITNEY_ERROR_KIND_INVALID,
  /**
   * The access lies outside of the registers, the buffer or the flash.
   */
  JITNEY_ERROR_KIND_OUT_OF_BOUNDS,
  /**
   * The card, kernel or broker cannot do this.
   */
  JITNEY_ERROR_KIND_UNSUPPORTED,
  /**
   * No memory, no address space, no huge pages, or a limit was reached.
   */
  JITNEY_ERROR_KIND_EXHAUSTED,
  /**
   * The caller has no right to it.
   */
  JITNEY_ERROR_KIND_DENIED,
  /**
   * The card answers nothing: link down, reset, unplugged, or the process that emulates it is gone.
   */
  JITNEY_ERROR_KIND_LINK_DOWN,
  /**
   * The broker is gone, or has ended the connection.
   */
  JITNEY_ERROR_KIND_DISCONNECTED,
  /**
   * It took longer than it may.
   */
  JITNEY_ERROR_KIND_TIMED_OUT,
  /**
   * Another process does not keep to the protocol.
   */
  JITNEY_ERROR_KIND_PROTOCOL,
  /**
   * The card's DMA engine has failed, or has not stopped.
   */
  JITNEY_ERROR_KIND_TRANSFER,
  /**
   * The transfer was given up before it had ended.
   */
  JITNEY_ERROR_KIND_CANCELLED,
  /**
   * The flash, or the bus that it is on, does not answer as it should.
   */
  JITNEY_ERROR_KIND_FLASH,
  /**
   * The handle was freed, or is none; or a stream has ended.
   */
  JITNEY_ERROR_KIND_CLOSED,
  /**
   * It is the parent's: this process was forked from it.
   */
  JITNEY_ERROR_KIND_FORKED,
  /**
   * A defect of the library's own, which has ended the call. Please report it.
   */
  JITNEY_ERROR_KIND_INTERNAL,
} jitney_error_kind;

/**
 * Memory that a card and this process see.
 */
typedef struct jitney_buffer jitney_buffer;

/**
 * The cards that a program can use, whoever owns them.
 */
typedef struct jitney_bus jitney_bus;

/**
 * A card that is open.
 */
typedef struct jitney_card jitney_card;

/**
 * A DMA channel, which is this program's until it is freed.
 */
typedef struct jitney_channel jitney_channel;

/**
 * A flash, identified, whose bus this program has until it is freed.
 */
typedef struct jitney_flash jitney_flash;

/**
 * An interrupt, which is this program's until it is freed.
 */
typedef struct jitney_interrupt jitney_interrupt;

/**
 * A right on a named part of a card, or the wait for one.
 */
typedef struct jitney_lease jitney_lease;

/**
 * 32-bit registers, by their offset in bytes.
 */
typedef struct jitney_registers jitney_registers;

/**
 * Blocks of a stream, which come one after the other.
 */
typedef struct jitney_stream jitney_stream;

/**
 * A transfer under way, or over.
 */
typedef struct jitney_transfer jitney_transfer;

/**
 * Hears of cards that arrive and leave.
 */
typedef struct jitney_watch jitney_watch;

/**
 * What went wrong: all texts are the thread's, and stay until its next failure. Those that are not known are NULL.
 */
typedef struct jitney_error {
  /**
   * What the function has returned: a negative errno; 0 if nothing has gone wrong yet.
   */
  int code;
  /**
   * What sort of failure it is.
   */
  enum jitney_error_kind kind;
  /**
   * The same as a word: `held`, `link-down`.
   */
  const char *kind_name;
  /**
   * The errno behind it by name, as `EBUSY`, if the system or another process gave one.
   */
  const char *errno_name;
  /**
   * What was tried on which object, and what happened, in a sentence for people. Never NULL.
   */
  const char *what;
  /**
   * Who has what was asked for, as `pid 4211 (jitney test ddr)`.
   */
  const char *holder;
  /**
   * What can be done about it: a command or a clause.
   */
  const char *remedy;
  /**
   * All of this as a JSON object with `kind`, `what`, `errno`, `holder` and `remedy`.
   */
  const char *json;
} jitney_error;

/**
 * How to open a bus. All zero is as usual: by `JITNEY_BROKER`, `JITNEY_CARDS`, a broker that runs, or this process's own.
 */
typedef struct jitney_bus_options {
  /**
   * The socket of the broker to use, and of no other.
   */
  const char* broker;
  /**
   * Addresses of cards that this process is to own, with commas between them.
   */
  const char* cards;
  /**
   * How long to stand in line for what another program holds, in milliseconds, where a lease does not say so itself; below 0 for
   * as long as it takes. 0 is as `JITNEY_WAIT` says, and without that nobody waits.
   */
  int wait_ms;
  /**
   * 1 if each card that this process opens is to have an address space of its own.
   */
  uint32_t isolate;
} jitney_bus_options;

/**
 * What a buffer has to be. All zero is as usual.
 */
typedef struct jitney_buffer_options {
  /**
   * Its IOVA is a multiple of this, a power of two up to 1 GiB; 0 if it does not matter.
   */
  uint64_t align;
  /**
   * Its IOVAs are below this, as 0x100000000 for a card with addresses of 32 bits; 0 if it does not matter.
   */
  uint64_t below;
  /**
   * `JITNEY_PAGES_4K` and the others.
   */
  uint32_t pages;
} jitney_buffer_options;

/**
 * A card that can be opened.
 */
typedef struct jitney_card_info {
  /**
   * Where it was found: a PCI address, or a board's socket.
   */
  char address[256];
  /**
   * PCI vendor id.
   */
  uint16_t vendor;
  /**
   * PCI device id.
   */
  uint16_t device;
  /**
   * PCI subsystem vendor id.
   */
  uint16_t subsystem_vendor;
  /**
   * PCI subsystem device id.
   */
  uint16_t subsystem_device;
  /**
   * PCI revision id.
   */
  uint8_t revision;
  /**
   * Sizes of its BARs in bytes; 0 of one that is not there, and where the card is not open.
   */
  uint64_t bars[6];
  /**
   * How many interrupt vectors it has; 0 where the card is not open.
   */
  uint32_t vectors;
  /**
   * Its device serial number; 0 if it has none, and where the card is not open.
   */
  uint64_t serial;
} jitney_card_info;

/**
 * Memory on a card that its DMA engine reaches.
 */
typedef struct jitney_memory {
  /**
   * Address of its first byte, on the card.
   */
  uint64_t base;
  /**
   * Bytes.
   */
  uint64_t size;
  /**
   * What it is made of, where known: `ddr`, `block-ram`, `hbm`, `ultra-ram`.
   */
  char kind[16];
} jitney_memory;

/**
 * Which board a card is.
 */
typedef struct jitney_board {
  /**
   * The board's name, as `NiteFury`.
   */
  char name[64];
  /**
   * The design's name, unique in the catalogue.
   */
  char design[64];
  /**
   * The FPGAs that it may have, with commas between them; empty if nobody knows.
   */
  char fpga[128];
  /**
   * The board's version; below 0 if its design has none.
   */
  int64_t version;
  /**
   * How many memories it has; of more than there is room for, the first are told.
   */
  uint32_t memory_count;
  /**
   * Its memories.
   */
  struct jitney_memory memories[16];
} jitney_board;

/**
 * How an emulated board is to be. What is zero is as usual; `board` or `file` is needed.
 */
typedef struct jitney_emulated_options {
  /**
   * The name of a board or a design, as `nitefury`.
   */
  const char* board;
  /**
   * A boards file that has it (docs/boards.md).
   */
  const char* file;
  /**
   * Bytes of its memory.
   */
  uint64_t memory;
  /**
   * Channels in each direction.
   */
  uint8_t channels;
  /**
   * Its interrupts, as by `jitney emulate --interrupts`.
   */
  const char* interrupts;
  /**
   * What its link carries: bytes a second, or as `gen2x4`.
   */
  const char* link;
  /**
   * The file that its flash is kept in.
   */
  const char* flash;
} jitney_emulated_options;

/**
 * Where a buffer is.
 */
typedef struct jitney_buffer_info {
  /**
   * Its first byte in this process. A card may write to it at any time.
   */
  void *pointer;
  /**
   * Its size in bytes, whole pages.
   */
  uint64_t size;
  /**
   * Where cards see its first byte.
   */
  uint64_t iova;
} jitney_buffer_info;

/**
 * How a channel is to be. All zero is as usual.
 */
typedef struct jitney_channel_options {
  /**
   * `JITNEY_WAIT_POLL` and the others.
   */
  uint32_t wait;
  /**
   * How long a transfer may make no progress, in milliseconds; 0 for as long as usual.
   */
  uint32_t timeout_ms;
  /**
   * How many descriptors its ring has; 0 for as many as usual.
   */
  uint32_t depth;
  /**
   * The longest descriptor in bytes; 0 for as long as can be.
   */
  uint32_t longest;
  /**
   * Alignment of addresses and lengths in bytes, if the design wants more than it says itself; 0 if not.
   */
  uint64_t align;
} jitney_channel_options;

/**
 * What a transfer did.
 */
typedef struct jitney_completed {
  /**
   * Bytes moved.
   */
  uint64_t bytes;
  /**
   * Descriptors that they took.
   */
  uint64_t descriptors;
  /**
   * From when it was submitted until its end was seen, in nanoseconds.
   */
  uint64_t nanoseconds;
  /**
   * Of what was received from a stream: 1 if the bytes end a packet. Otherwise 1.
   */
  uint32_t ends_packet;
} jitney_completed;

/**
 * How a stream is received. All zero is as usual.
 */
typedef struct jitney_capture_options {
  /**
   * How many blocks the ring has, 3 to 1023; 0 for 64.
   */
  uint32_t blocks;
  /**
   * `JITNEY_OVERRUN_WAIT` or the other.
   */
  uint32_t overrun;
  /**
   * Bytes of a block, a multiple of 64; 0 for 65536.
   */
  uint64_t block_size;
} jitney_capture_options;

/**
 * What there is to know about a block.
 */
typedef struct jitney_block {
  /**
   * Its number, counted from 0, those that were lost included.
   */
  uint64_t number;
  /**
   * How many bytes it has.
   */
  uint64_t bytes;
  /**
   * Blocks directly in front of it that were lost.
   */
  uint64_t lost;
  /**
   * 1 if its bytes end a packet.
   */
  uint32_t ends_packet;
} jitney_block;

/**
 * What a flash is.
 */
typedef struct jitney_flash_info {
  /**
   * What it is called; empty if its ID is not known.
   */
  char name[32];
  /**
   * Who made it.
   */
  char maker[32];
  /**
   * Its ID: maker, type, capacity, and what follows.
   */
  uint8_t id[6];
  /**
   * Bytes in all.
   */
  uint64_t size;
  /**
   * Bytes that are erased at once.
   */
  uint64_t sector;
  /**
   * Bytes that are programmed at once.
   */
  uint64_t page;
} jitney_flash_info;

/**
 * What there is to know about a channel.
 */
typedef struct jitney_channel_info {
  /**
   * `h2c0`, `c2h1`.
   */
  char name[16];
  /**
   * 1 if it goes to the card, 0 if it comes from it.
   */
  uint32_t to_card;
  /**
   * Its number, from 0 in each direction.
   */
  uint32_t index;
  /**
   * 1 if it has a stream on the card's side, not memory.
   */
  uint32_t stream;
} jitney_channel_info;

/**
 * Some bytes of a buffer, and where they are on the card.
 */
typedef struct jitney_piece {
  /**
   * The buffer. The transfer keeps its memory until it has ended.
   */
  struct jitney_buffer *buffer;
  /**
   * The first byte in the buffer.
   */
  uint64_t offset;
  /**
   * How many bytes; 0 for all up to the end of the buffer.
   */
  uint64_t length;
  /**
   * Where the first byte is on the card; without a meaning for a stream.
   */
  uint64_t card_address;
} jitney_piece;

/**
 * What a sensor says.
 */
typedef struct jitney_reading {
  /**
   * What measures: `xadc`, `sysmon`, `cms`.
   */
  char monitor[32];
  /**
   * What the sensor is called.
   */
  char name[64];
  /**
   * `temperature`, `voltage`, `current`, `power` or `speed`.
   */
  char quantity[16];
  /**
   * The unit of the values.
   */
  char unit[8];
  /**
   * The value now.
   */
  double now;
  /**
   * The least value since the monitor was reset; not a number if it keeps none.
   */
  double min;
  /**
   * The average, likewise.
   */
  double average;
  /**
   * The greatest value, likewise.
   */
  double max;
  /**
   * 1 if it is outside of its limits, 0 if not, below 0 if nobody watches it.
   */
  int alarm;
} jitney_reading;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The library's version, as `0.1.0`. The text is the library's and stays.
 */
const char *jitney_version(void);

/**
 * The number of the interface that the library has; a program that was compiled for another one (`JITNEY_ABI_VERSION`) must not
 * go on.
 */
uint32_t jitney_abi_version(void);

/**
 * What went wrong last in this thread. Never NULL; what it points to stays until the thread's next failure or its end, so copy
 * what is to be kept. A function that succeeds leaves it as it is.
 */
const struct jitney_error *jitney_last_error(void);

/**
 * Opens the cards that this program can use; `options` may be NULL. Alone, it owns them; beside a broker or under `jitney run` it
 * shares them. That there is no card at all is no error.
 */
int jitney_bus_open(const struct jitney_bus_options *options,
                    struct jitney_bus **bus);

/**
 * Frees a bus; NULL is none. Cards and buffers of it stay.
 */
int jitney_bus_free(struct jitney_bus *bus);

/**
 * The cards of a bus: fills at most `capacity` of `cards`, which may be NULL then, and returns how many there are.
 */
int jitney_bus_cards(struct jitney_bus *bus,
                     struct jitney_card_info* cards,
                     size_t capacity);

/**
 * The process id of the broker that owns the cards; 0 if this process owns them.
 */
int jitney_bus_broker(struct jitney_bus *bus);

/**
 * Memory of `size` bytes or more that this process and every card of the bus see; `options` may be NULL.
 */
int jitney_bus_buffer(struct jitney_bus *bus,
                      uint64_t size,
                      const struct jitney_buffer_options *options,
                      struct jitney_buffer **buffer);

/**
 * Offers a buffer to other programs at the broker, which attach to it by this name; `writable` is 1 if they may write to it. The
 * offer ends when the buffer is freed.
 */
int jitney_bus_share(struct jitney_bus *bus,
                     struct jitney_buffer *buffer,
                     const char* name,
                     uint32_t writable);

/**
 * A buffer that another program offers to writers by this name: the same memory at the same IOVA.
 */
int jitney_bus_attach(struct jitney_bus *bus, const char* name, struct jitney_buffer **buffer);

/**
 * Opens a card of a bus: by its address, `vendor:device` in hexadecimal, the name of its board, `serial:00-00-00-01-01-00-0a-35` or
 * `dna:4002000000000001000000ab`; NULL for the only one there is. `-ENOENT` if there is none or more than one, which the error names.
 *
 * It stays open until it and all that was made of it is freed, in any order; the bus may be freed before.
 */
int jitney_card_open(struct jitney_bus *bus,
                     const char* selector,
                     struct jitney_card **card);

/**
 * Frees a card; NULL is none. What was made of it goes on.
 */
int jitney_card_free(struct jitney_card *card);

/**
 * Who the card is, its BARs and its vectors.
 */
int jitney_card_describe(struct jitney_card *card, struct jitney_card_info *info);

/**
 * Memory of `size` bytes or more that this process and the card see; `options` may be NULL.
 */
int jitney_card_buffer(struct jitney_card *card,
                       uint64_t size,
                       const struct jitney_buffer_options *options,
                       struct jitney_buffer **buffer);

/**
 * Resets the card. `-EBUSY` while anybody uses a part of it.
 */
int jitney_card_reset(struct jitney_card *card);

/**
 * Which board the card is; looked for when it is first asked.
 */
int jitney_card_board(struct jitney_card *card, struct jitney_board *board);

/**
 * What the card's sensors say: fills at most `capacity` of `readings`, which may be NULL then, and returns how many there are.
 */
int jitney_card_sensors(struct jitney_card *card,
                        struct jitney_reading* readings,
                        size_t capacity);

/**
 * Sets the routes of the board's stream switch: for each of its `count` outputs the input, below 0 for none. Designs with streams have
 * the channels' own numbers: `{0, 1}` joins h2c0 with c2h0 and h2c1 with c2h1.
 */
int jitney_card_set_routes(struct jitney_card *card,
                           const int* inputs,
                           size_t count);

/**
 * Starts an emulated board in this process, for tests, and opens its card, which this process owns alone. The board ends when the card
 * and all that was made of it is freed.
 */
int jitney_card_emulate(const struct jitney_emulated_options *options,
                        struct jitney_card **card);

/**
 * Sets the level of an interrupt line of the design's own, as its logic would; `level` is 0 or 1.
 */
int jitney_emulated_set_interrupt(struct jitney_card *card, uint8_t line, uint32_t level);

/**
 * Has a fault happen on an emulated board, named as by `jitney emulate --fault`.
 */
int jitney_emulated_inject(struct jitney_card *card, const char* name);

/**
 * Registers of the card by name: `bar0` to `bar5`, `config`, or what has a name in the board's design, as `xdma` and `gpio0`.
 */
int jitney_registers_open(struct jitney_card *card,
                          const char* name,
                          struct jitney_registers **registers);

/**
 * Frees registers; NULL is none.
 */
int jitney_registers_free(struct jitney_registers *registers);

/**
 * How many bytes the registers are.
 */
int jitney_registers_size(struct jitney_registers *registers, uint64_t *size);

/**
 * The offset of the register that is called `name`, in bytes; which names there are is said by the error of one that is none.
 */
int jitney_registers_find(struct jitney_registers *registers,
                          const char* name,
                          uint64_t *offset);

/**
 * Where the registers begin in this process's memory, if they are mapped: for loads and stores of 32 bits by `volatile`
 * pointers, which are in no order with DMA memory that the program does not see to itself. NULL, which is no failure, if they
 * are reached by messages. It is there until the registers are freed.
 */
void *jitney_registers_pointer(struct jitney_registers *registers);

/**
 * Reads 32 bits at `offset`, a multiple of 4. All ones are a value here: that of a card whose link is down, too.
 */
int jitney_registers_read32(struct jitney_registers *registers,
                            uint64_t offset,
                            uint32_t *value);

/**
 * Writes 32 bits at `offset`, a multiple of 4. The card sees all that was written to DMA memory before it.
 */
int jitney_registers_write32(struct jitney_registers *registers, uint64_t offset, uint32_t value);

/**
 * Reads 8, 16, 32 or 64 `bits` at `offset`, a multiple of as many bytes; 64 are two times 32, low word first.
 */
int jitney_registers_read(struct jitney_registers *registers,
                          uint64_t offset,
                          uint32_t bits,
                          uint64_t *value);

/**
 * Writes 8, 16, 32 or 64 `bits` at `offset`, likewise. A value of more bits is refused.
 */
int jitney_registers_write(struct jitney_registers *registers,
                           uint64_t offset,
                           uint32_t bits,
                           uint64_t value);

/**
 * Frees a buffer, and waits until no card reaches it any more; NULL is none. `-EBUSY` while a transfer uses it: then the handle
 * stays, to be freed after the transfer was waited for or cancelled.
 */
int jitney_buffer_free(struct jitney_buffer *buffer);

/**
 * Where a buffer is.
 */
int jitney_buffer_describe(struct jitney_buffer *buffer, struct jitney_buffer_info *info);

/**
 * The first byte of a buffer in this process; NULL if it is none.
 */
void *jitney_buffer_pointer(struct jitney_buffer *buffer);

/**
 * The descriptor of a buffer's memory, to be mapped by somebody else. It is the library's: it is there until the buffer is freed;
 * whoever wants it for longer duplicates it.
 */
int jitney_buffer_fd(struct jitney_buffer *buffer);

/**
 * The DMA channels of the card: fills at most `capacity` of `channels`, which may be NULL then, and returns how many there are.
 */
int jitney_card_channels(struct jitney_card *card,
                         struct jitney_channel_info* channels,
                         size_t capacity);

/**
 * Opens a DMA channel of the card, `h2c0` to it or `c2h0` from it and so on; `options` may be NULL. It is this program's until it
 * is freed: `-EBUSY` if another has it, and `holder` says who.
 */
int jitney_channel_open(struct jitney_card *card,
                        const char* name,
                        const struct jitney_channel_options *options,
                        struct jitney_channel **channel);

/**
 * Frees a channel; NULL is none. Transfers that have handles go on, and keep it from others until these are freed, too.
 */
int jitney_channel_free(struct jitney_channel *channel);

/**
 * Starts a transfer between `count` pieces of buffers and the card, in their order, and does not wait. To a stream they are one
 * packet; from a stream a packet, or as much of one as there is room for, comes into one piece, a multiple of 64 bytes.
 */
int jitney_channel_submit(struct jitney_channel *channel,
                          const struct jitney_piece* pieces,
                          size_t count,
                          struct jitney_transfer **transfer);

/**
 * As `jitney_channel_submit`, and waits for the end: for `timeout_ms` milliseconds at most, below 0 for as long as it takes. One that
 * has not ended by then is cancelled, which is `-ETIMEDOUT`. `completed` may be NULL.
 */
int jitney_channel_run(struct jitney_channel *channel,
                       const struct jitney_piece* pieces,
                       size_t count,
                       int timeout_ms,
                       struct jitney_completed *completed);

/**
 * Writes `size` bytes of any memory to the card from `card_address` on, or as one packet to a stream, and waits until they are
 * there: for the few that are not worth a buffer, as they are copied.
 */
int jitney_channel_write(struct jitney_channel *channel,
                         const void* data,
                         size_t size,
                         uint64_t card_address);

/**
 * Reads `size` bytes of the card from `card_address` on into any memory, likewise. A stream is received from into buffers.
 */
int jitney_channel_read(struct jitney_channel *channel,
                        void* data,
                        size_t size,
                        uint64_t card_address);

/**
 * Waits for the end of a transfer for `timeout_ms` milliseconds at most: 0 only looks, below 0 is as long as it takes. Returns 1 if
 * it has ended well, and `completed`, which may be NULL, says what it did; 0 if it goes on; else with what it has failed,
 * the same each time.
 */
int jitney_transfer_wait(struct jitney_transfer *transfer,
                         int timeout_ms,
                         struct jitney_completed *completed);

/**
 * Ends a transfer. Returns 1 if it was not over by then: what it has written stays written, and waiting says `-ECANCELED`. 0 if it
 * was over.
 */
int jitney_transfer_cancel(struct jitney_transfer *transfer);

/**
 * A descriptor for `poll`: readable when there is reason to look, by `jitney_transfer_wait` with 0, which says whether the transfer has
 * ended and makes it unreadable again if not. It is the library's, until the transfer is freed.
 */
int jitney_transfer_fd(struct jitney_transfer *transfer);

/**
 * Frees a transfer; NULL is none. It goes on, and nobody hears how it ends. The engine is stopped when its channel is freed, too.
 */
int jitney_transfer_free(struct jitney_transfer *transfer);

/**
 * Receives a stream of the card without an end, by the channel of this name (`c2h0`), into a ring of blocks; `channel` and `options`
 * may be NULL. The channel is this program's until the stream is freed, which stops the engine.
 */
int jitney_stream_capture(struct jitney_card *card,
                          const char* name,
                          const struct jitney_channel_options *channel,
                          const struct jitney_capture_options *options,
                          struct jitney_stream **stream);

/**
 * Reads the stream that another program captures into a ring that it offers by this name, without slowing it down, beginning with what
 * comes from now on. When the ring has ended, reading says `-EBADF` with the reason.
 */
int jitney_stream_ring(struct jitney_bus *bus,
                       const char* name,
                       struct jitney_stream **stream);

/**
 * The most bytes that a block has.
 */
int jitney_stream_block_size(struct jitney_stream *stream, size_t *size);

/**
 * Copies the next block to `data`, where there is room for `capacity` bytes, which must be as many as a block can have. Waits for it for
 * `timeout_ms` milliseconds at most: 0 only looks, below 0 is as long as it takes. Returns 1 if there was one, and `block`, which
 * may be NULL, says which; 0 if there was none in time.
 */
int jitney_stream_read(struct jitney_stream *stream,
                       void* data,
                       size_t capacity,
                       int timeout_ms,
                       struct jitney_block *block);

/**
 * A descriptor for `poll`: readable when there is a block to read, or the stream has failed or ended. It is the library's, until
 * the stream is freed. From the first call on a thread of the library's reads one block ahead.
 */
int jitney_stream_fd(struct jitney_stream *stream);

/**
 * Frees a stream; NULL is none.
 */
int jitney_stream_free(struct jitney_stream *stream);

/**
 * Takes interrupt line `line` of the design's own logic, behind an XDMA.
 */
int jitney_interrupt_line(struct jitney_card *card, uint8_t line, struct jitney_interrupt **interrupt);

/**
 * Takes interrupt vector `vector` of the card, for a driver of one's own.
 */
int jitney_interrupt_vector(struct jitney_card *card, uint16_t vector, struct jitney_interrupt **interrupt);

/**
 * Waits until the interrupt has fired since the last call, for `timeout_ms` milliseconds at most: 0 only looks, below 0 is as long as it
 * takes. Returns 1 if it has, 0 if not. Of a line, the logic is to be told that it was heard before the next call: one that is
 * still up counts as raised again.
 */
int jitney_interrupt_wait(struct jitney_interrupt *interrupt,
                          int timeout_ms);

/**
 * A descriptor for `poll`: readable when there is reason to look, by `jitney_interrupt_wait` with 0. That is called until it returns
 * 0, which lets the interrupt fire again. The descriptor is the library's, until the interrupt is freed.
 */
int jitney_interrupt_fd(struct jitney_interrupt *interrupt);

/**
 * Frees an interrupt; NULL is none.
 */
int jitney_interrupt_free(struct jitney_interrupt *interrupt);

/**
 * Takes a right on a part of the card, as `h2c0`, `whole` or a name of one's own, that nobody else has until it is freed; `flags` are
 * `JITNEY_LEASE_SHARED` and `JITNEY_LEASE_LATER`, or 0. Stands in line at the broker for `timeout_ms` milliseconds at most: 0 is not
 * at all, below 0 is as long as it takes. `-EBUSY` if another program has it, and `holder` says who; what this program itself
 * has is never waited for.
 */
int jitney_lease_take(struct jitney_card *card,
                      const char* part,
                      uint32_t flags,
                      int timeout_ms,
                      struct jitney_lease **lease);

/**
 * Waits for a lease that was asked for with `JITNEY_LEASE_LATER`, for `timeout_ms` milliseconds at most: 0 only looks, below 0 is as
 * long as it takes. Returns 1 if it is had, 0 if not yet; else why it cannot be.
 */
int jitney_lease_wait(struct jitney_lease *lease,
                      int timeout_ms);

/**
 * A descriptor for `poll`: readable when the lease is had or cannot be. It is the library's, until the next call of
 * `jitney_lease_wait` that returns 1, or until the lease is freed.
 */
int jitney_lease_fd(struct jitney_lease *lease);

/**
 * Frees a lease, and the part is others'; NULL is none. One that is still waited for is given back as soon as it comes.
 */
int jitney_lease_free(struct jitney_lease *lease);

/**
 * Takes the bus of the board's configuration flash, and identifies it. `jitney flash write` is what writes to it.
 */
int jitney_flash_open(struct jitney_card *card,
                      struct jitney_flash **flash);

/**
 * What the flash is.
 */
int jitney_flash_describe(struct jitney_flash *flash, struct jitney_flash_info *info);

/**
 * Reads `size` bytes from `address` on.
 */
int jitney_flash_read(struct jitney_flash *flash, uint64_t address, void* data, size_t size);

/**
 * Frees a flash, and its bus is others'; NULL is none.
 */
int jitney_flash_free(struct jitney_flash *flash);

/**
 * Hears of cards that arrive and leave from now on, and first of what has changed since the bus was opened. A bus of a broker has what
 * has arrived; alone, a bus keeps the cards that it was opened with, and `jitney_bus_options.cards` names the other for a bus of its own.
 */
int jitney_watch_open(struct jitney_bus *bus,
                      struct jitney_watch **watch);

/**
 * Waits for the next change, for `timeout_ms` milliseconds at most: 0 only looks, below 0 is as long as it takes. Returns 1 if the card
 * has arrived, 2 if it has left, and 0 if there was no change.
 */
int jitney_watch_next(struct jitney_watch *watch,
                      struct jitney_card_info *card,
                      int timeout_ms);

/**
 * A descriptor for `poll`: readable when there may be a change, by `jitney_watch_next` with 0. It is the library's, until the watch is
 * freed.
 */
int jitney_watch_fd(struct jitney_watch *watch);

/**
 * Frees a watch; NULL is none.
 */
int jitney_watch_free(struct jitney_watch *watch);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* JITNEY_H */
