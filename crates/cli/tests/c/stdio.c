/* FILEs of devices. */
#include <stdio.h>
#include <string.h>

int main(void)
{
    char bytes[16] = {0};
    FILE *file = fopen("/dev/xdma0_h2c_0", "wb");
    if (!file || fseek(file, 0x12345, SEEK_SET) || fwrite("stdio works", 1, 11, file) != 11 || fclose(file))
        return 1;
    file = fopen("/dev/xdma0_c2h_0", "rb");
    if (!file || fseek(file, 0x12345, SEEK_SET) || fread(bytes, 1, 11, file) != 11 || fileno(file) < 3)
        return 2;
    printf("%s\n", bytes);
    if (fclose(file))
        return 3;
    return fopen("/dev/xdma0_c2h_3", "rb") ? 4 : 0;
}
