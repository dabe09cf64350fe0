/* An event loop of the program's own: transfers and an interrupt line in one poll(). On an emulated board, whose line is raised
   after each transfer. */

#include <jitney.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRANSFERS 4

static int must(int result, const char *what)
{
    if (result >= 0)
        return result;
    fprintf(stderr, "%s: %s\n", what, jitney_last_error()->what);
    exit(1);
}

int main(void)
{
    jitney_emulated_options board;
    jitney_channel_options options;
    jitney_card *card;
    jitney_channel *h2c;
    jitney_buffer *buffer;
    jitney_interrupt *line;
    jitney_transfer *transfer;
    jitney_completed done;
    int finished = 0, heard = 0;

    memset(&board, 0, sizeof board);
    board.board = "nitefury";
    must(jitney_card_emulate(&board, &card), "emulating a board");
    memset(&options, 0, sizeof options);
    options.wait = JITNEY_WAIT_INTERRUPT;
    must(jitney_channel_open(card, "h2c0", &options, &h2c), "the channel");
    must(jitney_card_buffer(card, TRANSFERS << 20, NULL, &buffer), "memory for DMA");
    must(jitney_interrupt_line(card, 0, &line), "the interrupt line");
    memset(jitney_buffer_pointer(buffer), 1, TRANSFERS << 20);

    while (finished < TRANSFERS || heard < 1) {
        struct pollfd descriptors[2];
        transfer = NULL;
        if (finished < TRANSFERS) {
            jitney_piece piece;
            piece.buffer = buffer;
            piece.offset = (uint64_t)finished << 20;
            piece.length = 1 << 20;
            piece.card_address = piece.offset;
            must(jitney_channel_submit(h2c, &piece, 1, &transfer), "starting a transfer");
        }
        for (int over = 0; !over;) {
            memset(descriptors, 0, sizeof descriptors);
            descriptors[0].fd = must(jitney_interrupt_fd(line), "the line's descriptor");
            descriptors[1].fd = transfer ? must(jitney_transfer_fd(transfer), "the transfer's descriptor") : -1;
            descriptors[0].events = descriptors[1].events = POLLIN;
            if (poll(descriptors, 2, 10000) <= 0) {
                fprintf(stderr, "nothing happens\n");
                return 1;
            }
            /* Each is looked at until there is nothing; that has it tell of the next. */
            while (must(jitney_interrupt_wait(line, 0), "the line")) {
                printf("the line was raised\n");
                heard++;
                over = transfer == NULL;
                must(jitney_emulated_set_interrupt(card, 0, 0), "the board");
            }
            if (transfer && must(jitney_transfer_wait(transfer, 0, &done), "the transfer")) {
                printf("a transfer of %llu bytes is over\n", (unsigned long long)done.bytes);
                finished++;
                over = 1;
                jitney_transfer_free(transfer);
                must(jitney_emulated_set_interrupt(card, 0, 1), "the board");
            }
        }
    }
    jitney_interrupt_free(line);
    jitney_channel_free(h2c);
    must(jitney_buffer_free(buffer), "freeing the memory");
    jitney_card_free(card);
    return 0;
}
