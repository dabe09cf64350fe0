/* A stream that is received without an end, block by block, while packets are sent to it: on an emulated board whose streams are
   joined. */

#include <jitney.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(int result, const char *what)
{
    if (result >= 0)
        return;
    fprintf(stderr, "%s: %s\n", what, jitney_last_error()->what);
    exit(1);
}

int main(void)
{
    jitney_emulated_options board;
    jitney_capture_options options;
    jitney_card *card;
    jitney_channel *h2c;
    jitney_stream *stream;
    jitney_block block;
    char data[4096];
    int inputs[] = {0, 1, 2, 3};

    memset(&board, 0, sizeof board);
    board.board = "NiteFury_dma_stream_loopback";
    must(jitney_card_emulate(&board, &card), "emulating a board");
    /* There are as many channels from the card as to it. */
    int channels = jitney_card_channels(card, NULL, 0);
    must(channels, "the channels");
    must(jitney_card_set_routes(card, inputs, (size_t)channels / 2), "joining the streams");
    memset(&options, 0, sizeof options);
    options.blocks = 16;
    options.block_size = sizeof data;
    options.overrun = JITNEY_OVERRUN_WAIT;
    must(jitney_stream_capture(card, "c2h0", NULL, &options, &stream), "starting to receive");
    must(jitney_channel_open(card, "h2c0", NULL, &h2c), "the channel to the card");

    for (int number = 0; number < 8; number++) {
        memset(data, number, sizeof data);
        must(jitney_channel_write(h2c, data, (size_t)(number + 1) * 64, 0), "sending a packet");
        int found = jitney_stream_read(stream, data, sizeof data, 10000, &block);
        must(found, "receiving");
        if (found == 0) {
            fprintf(stderr, "nothing came in 10 s\n");
            return 1;
        }
        printf("block %llu: %llu bytes of %d%s, %llu lost before it\n", (unsigned long long)block.number,
               (unsigned long long)block.bytes, data[0], block.ends_packet ? ", a whole packet" : "",
               (unsigned long long)block.lost);
    }
    jitney_channel_free(h2c);
    jitney_stream_free(stream);
    jitney_card_free(card);
    return 0;
}
