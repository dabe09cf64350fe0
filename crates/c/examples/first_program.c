/* A first program: what was written to a board's memory is read back. On an emulated board in its own process, or with a
   selector as its argument on a card: ./first_program nitefury */

#include <jitney.h>
#include <stdio.h>
#include <string.h>

static int failed(const char *what)
{
    const jitney_error *error = jitney_last_error();
    fprintf(stderr, "%s: %s%s%s\n", what, error->what, error->remedy ? "; " : "",
            error->remedy ? error->remedy : "");
    return 1;
}

int main(int argc, char **argv)
{
    jitney_emulated_options options;
    jitney_bus *bus = NULL;
    jitney_card *card;
    jitney_board board;
    jitney_channel *h2c, *c2h;
    char text[12] = "";

    memset(&options, 0, sizeof options);
    options.board = "nitefury";
    if (argc < 2) {
        if (jitney_card_emulate(&options, &card) < 0)
            return failed("emulating a board");
    } else if (jitney_bus_open(NULL, &bus) < 0 || jitney_card_open(bus, argv[1], &card) < 0) {
        return failed("opening the card");
    }
    if (jitney_card_board(card, &board) < 0)
        return failed("identifying the board");
    printf("%s version %d\n", board.name, (int)board.version);

    if (jitney_channel_open(card, "h2c0", NULL, &h2c) < 0 || jitney_channel_open(card, "c2h0", NULL, &c2h) < 0)
        return failed("opening the channels");
    if (jitney_channel_write(h2c, "hello, card", 11, 0x1000) < 0 || jitney_channel_read(c2h, text, 11, 0x1000) < 0)
        return failed("moving bytes");
    printf("%s\n", text);

    /* In any order; NULL is none. */
    jitney_bus_free(bus);
    jitney_card_free(card);
    jitney_channel_free(h2c);
    jitney_channel_free(c2h);
    return 0;
}
