/* Registers through a mapping, in the ways in which compilers and the C library access memory; and the program's own faults.
 * usage: registers device first-word [add: by an instruction that is not known] */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST(what)                                                  \
    do {                                                            \
        if (!(what)) {                                              \
            fprintf(stderr, "line %d: not %s\n", __LINE__, #what);  \
            exit(1);                                                \
        }                                                           \
    } while (0)

static volatile uint32_t *map;
static uint32_t first;

static void fault(int number, siginfo_t *about, void *context)
{
    (void)context;
    _exit(number == SIGSEGV && about->si_addr == (void *)16 ? 42 : 43);
}

static void *read_many(void *nothing)
{
    for (int i = 0; i < 500; i++)
        MUST(map[0] == first);
    return nothing;
}

int main(int argc, char **argv)
{
    MUST(argc >= 3);
    first = strtoul(argv[2], NULL, 0);
    struct sigaction own = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO}, before;
    sigaction(SIGSEGV, &own, NULL);
    int device = open(argv[1], O_RDWR | O_SYNC);
    MUST(device >= 0);
    map = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_SHARED, device, 0);
    MUST(map != MAP_FAILED);
    close(device); /* a mapping outlives the descriptor */
    if (argc > 3)
        return __sync_fetch_and_add(map, 1) != first;

    MUST(map[0] == first);
    MUST(*(volatile uint16_t *)map == (uint16_t)first);
    MUST(((volatile uint8_t *)map)[3] == first >> 24);
    MUST((uint32_t) * (volatile uint64_t *)map == first);
    MUST((int64_t) * (volatile int8_t *)map == (int8_t)first);
    uint32_t copy[512] = {0}, again[512] = {0};
    memcpy(copy, (void *)map, sizeof copy);
    MUST(copy[0] == first);
    for (size_t size = 1; size <= 256; size += 5) {
        memset(again, 0, sizeof again);
        memcpy(again, (void *)map, size);
        MUST(!memcmp(again, copy, size));
    }
    const void *source = (const void *)map;
    void *target = again;
    size_t count = 64;
    __asm__ volatile("rep movsl" : "+S"(source), "+D"(target), "+c"(count) : : "memory");
    MUST(!memcmp(again, copy, 256));

    /* Threads at once, and with every signal masked. */
    pthread_t threads[4];
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, read_many, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);

    /* A child has the mapping, and its own way to the card. */
    pid_t child = fork();
    if (child == 0)
        _exit(map[0] == first ? 7 : 8);
    int status = 0;
    waitpid(child, &status, 0);
    MUST(WEXITSTATUS(status) == 7);

    MUST(mprotect((void *)map, 0x1000, PROT_READ) == -1);
    MUST(munmap((char *)map + 0x8000, 0x8000) == 0);
    MUST(map[1] == copy[1]);
    /* What the program says of its own faults is still so. */
    sigaction(SIGSEGV, NULL, &before);
    MUST(before.sa_sigaction == fault);
    pthread_sigmask(SIG_UNBLOCK, &all, NULL);
    printf("registers are right\n");
    fflush(stdout);
    volatile int *volatile nowhere = (volatile int *)16;
    *nowhere = 1;
    return 1;
}
