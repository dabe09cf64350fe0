/* Reads or writes a register through a mapping: as people write such a tool.
 * usage: reg_rw device address [w|h|b [value]] */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    off_t target = strtoull(argv[2], NULL, 0);
    char width = argc > 3 ? argv[3][0] : 'w';
    long page = sysconf(_SC_PAGESIZE);
    off_t base = target & ~(off_t)(page - 1);
    int card = open(argv[1], O_RDWR | O_SYNC);
    if (card < 0) {
        fprintf(stderr, "%s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    char *map = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, card, base);
    if (map == MAP_FAILED) {
        fprintf(stderr, "mmap: %s\n", strerror(errno));
        return 1;
    }
    volatile void *at = map + (target - base);
    if (argc > 4) {
        uint32_t value = strtoul(argv[4], NULL, 0);
        switch (width) {
        case 'b': *(volatile uint8_t *)at = value; break;
        case 'h': *(volatile uint16_t *)at = value; break;
        default: *(volatile uint32_t *)at = value; break;
        }
    }
    uint32_t value = width == 'b' ? *(volatile uint8_t *)at : width == 'h' ? *(volatile uint16_t *)at : *(volatile uint32_t *)at;
    printf("Read %d-bit value at address 0x%lx: 0x%x\n", width == 'b' ? 8 : width == 'h' ? 16 : 32, (long)target, value);
    if (munmap(map, page) == -1) {
        perror("munmap");
        return 1;
    }
    close(card);
    return 0;
}
