/* A plain loop over files into a ring of slots: what any loader can be held against.
 *
 * cloop DIRECTORY NAMES THREADS SLOT_BYTES SLOTS DIRECT PASSES -> prints bytes per second.
 * Each thread takes the next file, opens, reads and closes it; small files are packed into a
 * slot at page boundaries as the loader does, and slots are used in turn.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char **names;
static long count, total, next_file, slot_bytes, slots, num_threads;
static int directory, flags;
static char *ring;

static void *work(void *argument) {
    long me = (long)argument, slot = me, at = 0, done = 0, i;
    while ((i = __atomic_fetch_add(&next_file, 1, __ATOMIC_RELAXED)) < total) {
        struct stat status;
        int fd = openat(directory, names[i % count], flags);
        if (fd < 0 || fstat(fd, &status)) { perror(names[i % count]); exit(1); }
        long left = status.st_size, offset = 0, span = (left + 4095) & ~4095L;
        if (at + (span < slot_bytes ? span : slot_bytes) > slot_bytes) {
            slot = (slot + num_threads) % slots;
            at = 0;
        }
        while (left > 0) {
            long want = (left + 4095) & ~4095L, room = slot_bytes - at;
            ssize_t got = pread(fd, ring + slot * slot_bytes + at, want < room ? want : room, offset);
            if (got <= 0) { perror("pread"); exit(1); }
            left -= got, offset += got, done += got;
            at += (got + 4095) & ~4095L;
            if (at >= slot_bytes) { slot = (slot + num_threads) % slots; at = 0; }
        }
        close(fd);
    }
    return (void *)done;
}

int main(int argc, char **argv) {
    if (argc != 8) return 2;
    char line[4096];
    FILE *list = fopen(argv[2], "r");
    while (list && fgets(line, sizeof line, list)) {
        line[strcspn(line, "\n")] = 0;
        names = realloc(names, (count + 1) * sizeof *names);
        names[count++] = strdup(line);
    }
    num_threads = atol(argv[3]), slot_bytes = atol(argv[4]), slots = atol(argv[5]);
    flags = O_RDONLY | (atoi(argv[6]) ? O_DIRECT : 0);
    total = count * atol(argv[7]);
    directory = open(argv[1], O_RDONLY | O_DIRECTORY);
    ring = mmap(0, slots * slot_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset(ring, 0, slots * slot_bytes);
    pthread_t threads[256];
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (long t = 0; t < num_threads; t++) pthread_create(&threads[t], 0, work, (void *)t);
    long bytes = 0;
    for (long t = 0; t < num_threads; t++) {
        void *done;
        pthread_join(threads[t], &done);
        bytes += (long)done;
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%.0f\n", bytes / (end.tv_sec - begin.tv_sec + (end.tv_nsec - begin.tv_nsec) / 1e9));
    return 0;
}
