/*
 * kills.c: writer and reader are killed just before one of their stores into the segment, and what is left serves on.
 *
 *   kills PATH KILLS
 *
 * Four lives are ended: a writer that adopts, publishes and sweeps; one that begins with no file at all; one that changes
 * the layout and back; a reader that decides, drives whole requests and leaves. Each life is first lived once to count its stores; the kills are spread
 * evenly over them. After each kill a reader that lives throughout decides, the next writer opens, publishes and sweeps,
 * nothing is in flight, nothing was miscounted, and what dead readers counted is there to the last one.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "brixflow.h"
#include "stores.h"

#define NOW 2000000000u
#define ROUNDS 3 /* decisions and requests in the life of a reader */

typedef void (*life)(long number);

static const char *path;
static long *counted; /* shared with the children: stores of a life */
static uint64_t made; /* decisions of readers that died or left, all accounted for */

static void need(int holds, const char *what, long number)
{
    if (holds)
        return;
    printf("%s, after the kill at store %ld\n", what, number);
    exit(1);
}

static brix_status publish(brix_writer *writer, uint32_t pods)
{
    brix_settings settings = {.default_strategy = {"least-request", 13}, .api_key = {"", 0},
                              .users = BRIX_USERS_KNOWN};
    brix_profile profile = {.name = {"p", 1}, .is_default = 1, .requests_per_second = 1u << 31};
    uint32_t index;
    brix_status status = brix_writer_begin(writer);
    if (status != BRIX_OK)
        return status;
    brix_writer_settings(writer, &settings);
    for (uint32_t i = 0; i < pods; i++) {
        char key = (char)('a' + i);
        brix_pod pod = {.key = {&key, 1}, .name = {&key, 1}, .address = {&key, 1}, .ready = 1};
        if (brix_writer_pod(writer, &pod, &index) != BRIX_OK)
            return BRIX_FULL;
    }
    brix_writer_model(writer, "m", 1);
    brix_writer_profiles(writer, (brix_text){"", 0}, &profile, 1);
    for (uint32_t i = 0; i < pods; i++)
        brix_writer_member(writer, i);
    return brix_writer_publish(writer);
}

static brix_writer *open_writer(uint32_t models)
{
    brix_limits limits = {models, 8, 16, 4096, 6};
    brix_writer *writer;
    brix_origin origin;
    return brix_writer_open(path, &limits, &writer, &origin) == BRIX_OK ? writer : NULL;
}

static int decide(brix_reader *reader, uint64_t random)
{
    brix_request request = {.model = {"m", 1}, .random = random, .now = NOW};
    brix_decision decision;
    brix_status status = brix_reader_decide(reader, &request, &decision);
    int sound = status == BRIX_OK && decision.verdict == BRIX_CHOSEN && decision.pod_name[0] == decision.address[0];
    brix_reader_finish(reader, &decision);
    return sound;
}

static void drive(brix_reader *reader)
{
    static const char headers[] = "\x12\x22\x0a\x20\x0a\x1e\x0a\x05:path\x1a\x15/v1/chat/completions/";
    static const char body[] = "\x22\x24\x0a\x20{\"model\":\"m\",\"messages\":[{},{}]}\x10\x01";
    static char output[BRIX_OUTPUT_BYTES];
    brix_flow *flow;
    size_t written;
    if (brix_flow_begin(reader, "", 0, &flow) != BRIX_OK)
        return;
    brix_flow_message(flow, headers, sizeof headers - 1, output, sizeof output, &written);
    brix_flow_message(flow, body, sizeof body - 1, output, sizeof output, &written);
    brix_flow_end(flow, BRIX_END_STREAM);
}

/* Somebody with a limit, and somebody who is nobody. */
static brix_status know(brix_writer *writer)
{
    uint64_t key;
    brix_user_record user = {.exists = 1, .rpm = 7}, nobody = {0};
    brix_writer_users_begin(writer);
    brix_status status = brix_writer_user_limits(writer, (brix_text){"ada", 3}, &user, NOW, &key);
    if (status == BRIX_OK)
        status = brix_writer_user_limits(writer, (brix_text){"eve", 3}, &nobody, NOW, &key);
    brix_writer_users_end(writer);
    return status;
}

/* What a collector does: `models` in its first and in its second life, another number being another layout. */
static void write_twice(const uint32_t models[2])
{
    brix_swept swept;
    brix_users users;
    brix_totals totals;
    brix_sample sample = {.values = {[BRIX_GAUGE_TAKEN] = 1, [BRIX_GAUGE_RUNNING] = 3}};
    for (uint32_t turn = 0; turn < 2; turn++) {
        brix_writer *writer = open_writer(models[turn]);
        if (writer == NULL)
            return;
        publish(writer, 3);
        know(writer);
        brix_writer_gauges(writer, 0, &sample);
        brix_writer_users(writer, NOW, &users);
        brix_writer_user_add(writer, (brix_text){"ada", 3}, 5, 7, NOW);
        brix_writer_sweep(writer, &swept);
        brix_writer_totals(writer, &totals);
        publish(writer, 2);
        brix_writer_close(writer);
    }
}

static void write_along(long number)
{
    (void)number;
    write_twice((const uint32_t[]){4, 4});
}

static void write_successors(long number)
{
    (void)number;
    write_twice((const uint32_t[]){5, 4});
}

static void read_along(long number)
{
    brix_reader *reader;
    if (brix_reader_open(path, 4, &reader) != BRIX_OK)
        return;
    for (int i = 0; i < ROUNDS; i++) {
        decide(reader, (uint64_t)number);
        drive(reader);
    }
    brix_reader_close(reader);
}

/* Live the life in a process of its own that ends before the store of this number (0: not). Returns its stores. */
static long lived(life live, long number)
{
    fflush(stdout);
    pid_t child = fork();
    int status;
    if (child == 0) {
        stores_arm(number);
        live(number);
        *counted = stores_seen();
        _exit(0);
    }
    waitpid(child, &status, 0);
    if (number == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL))
        return *counted;
    need(WIFEXITED(status), "the process died otherwise", number);
    return *counted;
}

/* A reader that counts and dies with its slot full: what a sweep has to keep. */
static void leave_counts(long number)
{
    brix_reader *reader;
    if (brix_reader_open(path, 4, &reader) != BRIX_OK)
        _exit(1);
    for (int i = 0; i < ROUNDS; i++)
        decide(reader, (uint64_t)(number + i));
    _exit(0);
}

static uint64_t decisions_of(const brix_totals *totals)
{
    uint64_t sum = 0;
    for (int i = 0; i < BRIX_DECISIONS; i++)
        sum += totals->decisions[i];
    return sum;
}

/* The next writer finds everything as it has to be; what it counts is at least `least` decisions, at most `most`. */
static void check(brix_reader *witness, long number, uint64_t least, uint64_t most, brix_totals *totals)
{
    brix_swept swept;
    brix_model_totals model;
    brix_pod_totals pod;
    uint64_t endings = 0;
    if (witness)
        need(decide(witness, (uint64_t)number), "the living reader found no pod", number);
    brix_writer *writer = open_writer(4);
    need(writer != NULL, "no writer could open", number);
    brix_writer_sweep(writer, &swept);
    need(publish(writer, 2) == BRIX_OK, "nothing could be published", number);
    need(know(writer) == BRIX_OK, "no user finds room", number);
    brix_writer_sweep(writer, &swept);
    brix_writer_totals(writer, totals);
    need(totals->in_flight == 0 && totals->anomalies == 0, "counts do not match", number);
    for (uint32_t i = 0; brix_writer_model_totals(writer, i, &model) == BRIX_OK; i++) {
        need(model.in_flight == 0, "a model has requests in flight", number);
        for (int line = 0; line < BRIX_ENDINGS; line++)
            endings += model.endings[line];
    }
    for (uint32_t i = 0; brix_writer_pod_totals(writer, i, &pod) == BRIX_OK; i++)
        need(pod.running == 0, "a pod has requests running", number);
    need(endings <= totals->requests, "more requests ended than began", number);
    if (witness) {
        uint64_t decisions = decisions_of(totals);
        if (decisions < least || decisions > most)
            printf("%llu decisions, not %llu to %llu: ", (unsigned long long)decisions, (unsigned long long)least,
                   (unsigned long long)most);
        need(decisions >= least && decisions <= most, "decisions of dead readers were lost or counted twice", number);
    }
    brix_writer_close(writer);
    if (witness)
        need(decide(witness, (uint64_t)number), "the living reader lost the segment", number);
}

static void begin_anew(void)
{
    char other[4096];
    static const char *const ends[] = {"", ".new", ".lock", ".foreign"};
    for (int i = 0; i < 4; i++) {
        snprintf(other, sizeof other, "%s%s", path, ends[i]);
        unlink(other);
    }
}

static long kill_writers(long kills)
{
    brix_reader *witness;
    brix_totals totals;
    check(NULL, 0, 0, 0, &totals);
    need(brix_reader_open(path, 8, &witness) == BRIX_OK, "no reader could open", 0);
    lived(leave_counts, 0);
    made = ROUNDS;
    long stores = lived(write_along, 0);
    for (long i = 0; i < kills; i++) {
        lived(leave_counts, 0);
        made += ROUNDS + 1; /* the witness decides before the count, and once more after it */
        lived(write_along, 1 + i * stores / kills);
        check(witness, 1 + i * stores / kills, made, made, &totals);
        made++;
    }
    brix_reader_close(witness);
    return stores;
}

static long kill_beginners(long kills)
{
    brix_totals totals;
    begin_anew();
    long stores = lived(write_along, 0);
    for (long i = 0; i < kills; i++) {
        begin_anew();
        lived(write_along, 1 + i * stores / kills);
        check(NULL, 1 + i * stores / kills, 0, 0, &totals);
    }
    return stores;
}

/* Readers follow from layout to layout. What they counted on a file that its writer left behind goes with it. */
static long kill_successors(long kills)
{
    brix_reader *witness;
    brix_totals totals;
    begin_anew();
    check(NULL, 0, 0, 0, &totals);
    need(brix_reader_open(path, 8, &witness) == BRIX_OK, "no reader could open", 0);
    lived(leave_counts, 0);
    long stores = lived(write_successors, 0);
    for (long i = 0; i < kills; i++) {
        lived(leave_counts, 0);
        lived(write_successors, 1 + i * stores / kills);
        check(witness, 1 + i * stores / kills, 0, UINT64_MAX, &totals);
    }
    brix_reader_close(witness);
    return stores;
}

static long kill_readers(long kills)
{
    brix_reader *witness;
    brix_totals totals;
    begin_anew();
    check(NULL, 0, 0, 0, &totals);
    need(brix_reader_open(path, 8, &witness) == BRIX_OK, "no reader could open", 0);
    long stores = lived(read_along, 0);
    uint64_t before = 2 * ROUNDS, requests = 0;
    for (long i = 0; i < kills; i++) {
        long number = 1 + i * stores / kills;
        lived(read_along, number);
        check(witness, number, before + 1, before + 1 + 2 * ROUNDS, &totals);
        need(totals.requests >= requests && totals.requests <= requests + 2 * ROUNDS, "requests went astray", number);
        requests = totals.requests;
        before = decisions_of(&totals) + 1;
    }
    brix_reader_close(witness);
    return stores;
}

int main(int count, char **arguments)
{
    if (count != 3)
        return 2;
    path = arguments[1];
    long kills = atol(arguments[2]);
    counted = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    printf("writer: %ld kills over %ld stores\n", kills, kill_writers(kills));
    printf("first writer: %ld kills over %ld stores\n", kills, kill_beginners(kills));
    printf("successor: %ld kills over %ld stores\n", kills, kill_successors(kills));
    printf("reader: %ld kills over %ld stores\n", kills, kill_readers(kills));
    return 0;
}
