/*
 * envoy_host.c: plays Envoy to the module, under the sanitizers. It implements the callbacks, calls the hooks in
 * every order up to a length and in random orders after that, and counts what the segment says at the end.
 *
 *   envoy_host PATH SECONDS SEED
 *
 * Bodies are handed out in memory of exactly their size, and are gone when the hook returns. A recreated stream
 * destroys the old one at once, or after the new one has begun, as Envoys differ in that.
 */
#include "envoy_side.h"

#include <time.h>

#define LENGTH 4

static uint64_t state;
static const void *made;
static int late_destroy;
static uint64_t streams_begun;

static uint32_t dice(uint32_t bound)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % bound);
}

static stream *begin(void)
{
    stream *s = calloc(1, sizeof *s);
    s->inside = envoy_dynamic_module_on_http_filter_new(made, s);
    must(s->inside != NULL, "every stream gets a filter");
    return s;
}

static void destroy(stream *s)
{
    s->gone = 1;
    envoy_dynamic_module_on_http_filter_destroy(s->inside);
}

static void drop(stream *s)
{
    while (s->lines)
        forget_header(s, 0);
    for (int i = 0; i < 3; i++)
        free(s->body[i]);
    free(s);
}

static void fill(stream *s, int body, const char *text);

/* Envoy joins what was received to what is buffered. */
static void buffer(stream *s)
{
    size_t first = s->length[ENVOY_BUFFERED_REQUEST], second = s->length[ENVOY_RECEIVED_REQUEST];
    char *joined = malloc(first + second + 1);
    if (first > 0)
        memcpy(joined, s->body[ENVOY_BUFFERED_REQUEST], first);
    if (second > 0)
        memcpy(joined + first, s->body[ENVOY_RECEIVED_REQUEST], second);
    free(s->body[ENVOY_BUFFERED_REQUEST]);
    s->body[ENVOY_BUFFERED_REQUEST] = joined;
    s->length[ENVOY_BUFFERED_REQUEST] = first + second;
    s->length[ENVOY_RECEIVED_REQUEST] = 0;
}

static void schedule(stream *s)
{
    s->due = 0;
    envoy_dynamic_module_on_http_filter_scheduled(s, s->inside, 0);
}

/* The same request once more must reach a pod again. */
static void ask_again(stream *s)
{
    put_header(s, ":method", "POST");
    put_header(s, ":path", "/v1/chat/completions");
    (void)envoy_dynamic_module_on_http_filter_request_headers(s, s->inside, false);
    fill(s, ENVOY_RECEIVED_REQUEST, "{\"model\":\"m\",\"messages\":[{}]}");
    s->held = envoy_dynamic_module_on_http_filter_request_body(s, s->inside, true) != ENVOY_CONTINUE;
    if (s->held)
        buffer(s);
    while (s->due)
        schedule(s);
    must(!s->held, "it is decided again");
}

static int is_open(const stream *s)
{
    return !brix_flow_is_complete((const brix_flow *)((uintptr_t)s->inside & ~(uintptr_t)BRIX_MODULE_TRY_BITS));
}

bool envoy_dynamic_module_callback_http_filter_recreate_stream(void *host, envoy_header *headers, size_t count)
{
    stream *s = host;
    must(!s->gone && headers == NULL && count == 0, "a living stream is recreated as it is");
    if (dice(8) == 0)
        return false;
    envoy_dynamic_module_on_http_filter_stream_complete(s, s->inside);
    if (!late_destroy)
        destroy(s);
    s->again = begin();
    ask_again(s->again);
    if (late_destroy)
        destroy(s);
    must(is_open(s->again), "the old stream's end is not the request's");
    return true;
}

/* --- events ------------------------------------------------------------------------------------- */

static const char *const BODIES[] = {
    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"stream\":true}",
    "{\"model\":\"m\",\"messages\":[{}]}",
    "{\"model\":\"m\",\"messages\":[{\"content\":\"ab ab ab\"}],\"input\":[\"abab\",\"b a\",\"ab\"],\"max_tokens\":7}",
    "{\"model\":\"absent\",\"messages\":[{}]}",
    "{\"model\":\"m\",\"messages\":[{}]} trailing",
    "{\"model\":",
    "",
};
static const char *const ANSWERS[] = {
    "data: {\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":20,\"total_tokens\":30}}\n\n",
    "{\"error\":{\"message\":\"x\",\"type\":\"t\",\"param\":null,\"code\":400}}",
    "plain words \xff\xfe",
    "",
};

static void fill(stream *s, int body, const char *text)
{
    free(s->body[body]);
    s->length[body] = strlen(text);
    s->body[body] = copy_of(text, s->length[body]);
}

static void forget_kept(void)
{
    while (kept_count > 0)
        free(kept[--kept_count]);
}

static void request_headers(stream *s, bool end)
{
    while (s->lines)
        forget_header(s, 0);
    put_header(s, ":method", dice(8) ? "POST" : "GET");
    put_header(s, ":path", dice(8) ? dice(4) ? "/v1/chat/completions" : "/v1/embeddings" : "/nowhere");
    if (dice(3) == 0)
        put_header(s, "config-profile", "auto");
    if (dice(4) == 0)
        put_header(s, "target-pod", "169.254.169.254:80");
    if (dice(4) == 0)
        put_header(s, "routing-strategy", dice(4) ? "random" : "none-such");
    if (dice(4) == 0)
        put_header(s, "x-error-x", "1");
    if (dice(2))
        put_header(s, "user", dice(2) ? "ada" : "somebody");
    envoy_dynamic_module_on_http_filter_request_headers(s, s->inside, end);
}

static void go_on_counting(stream *s)
{
    for (int rounds = 0; s->due && dice(20); rounds++) {
        must(rounds < 4096, "counting comes to its end");
        schedule(s);
    }
}

/* What came before is buffered now; at the end Envoys may have joined the last chunk to it already. */
static void request_body(stream *s, bool end)
{
    const char *text = BODIES[dice(7)];
    size_t length = strlen(text), cut = dice((uint32_t)length + 1);
    char first[256];
    snprintf(first, sizeof first, "%.*s", (int)cut, text);
    if (end && s->length[ENVOY_BUFFERED_REQUEST] == 0 && dice(2)) {
        fill(s, ENVOY_RECEIVED_REQUEST, first);
        if (envoy_dynamic_module_on_http_filter_request_body(s, s->inside, false) == ENVOY_STOP_AND_BUFFER)
            fill(s, ENVOY_BUFFERED_REQUEST, dice(2) ? first : text);
        fill(s, ENVOY_RECEIVED_REQUEST, s->length[ENVOY_BUFFERED_REQUEST] == length ? "" : text + cut);
    } else {
        fill(s, ENVOY_RECEIVED_REQUEST, text);
    }
    int status = envoy_dynamic_module_on_http_filter_request_body(s, s->inside, end);
    s->held = (end || s->held) && status != ENVOY_CONTINUE; /* no order of hooks is left out: also more after the end */
    must(!end || !s->asked || s->held, "a request that waits for an answer is held back");
    if (status == ENVOY_STOP_AND_BUFFER && s->due)
        buffer(s);
}

/* The collector answers, sensibly or not, or fails. */
static void answered(stream *s)
{
    static const char *const answers[] = {"A 7", "U", "R 10", "T 99999999999999999999999", "S 1", "N", "L", "D", "r", "s",
                                          "", "?"};
    const char *text = answers[dice(12)];
    char status[] = "200";
    envoy_header head = {":status", 7, dice(8) ? status : "503", 3};
    size_t half = strlen(text) / 2;
    go_on_counting(s);
    envoy_text parts[] = {{text, half}, {text + half, strlen(text) - half}};
    if (!s->asked)
        return;
    s->asked = 0;
    envoy_dynamic_module_on_http_filter_http_callout_done(s, s->inside, 7, dice(8) == 0, &head, 1, parts, 2);
}

static void response_headers(stream *s, bool end)
{
    static const char *const statuses[] = {"200", "204", "400", "401", "500", "503", "weird"};
    while (s->lines)
        forget_header(s, 0);
    put_header(s, ":status", statuses[dice(7)]);
    if (dice(8) == 0)
        put_header(s, "content-encoding", "gzip");
    envoy_dynamic_module_on_http_filter_response_headers(s, s->inside, end);
}

static void response_body(stream *s, bool end)
{
    fill(s, ENVOY_RECEIVED_RESPONSE, ANSWERS[dice(4)]);
    int status = envoy_dynamic_module_on_http_filter_response_body(s, s->inside, end);
    must(status == ENVOY_CONTINUE, "no byte of an answer is held back");
    forget_kept();
}

static void local_reply(stream *s)
{
    static const char *const reasons[] = {
        "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_111}",
        "upstream_reset_before_response_started{connection_termination}",
        "upstream_reset_before_response_started{overflow}",
        "request_payload_too_large",
        "",
    };
    const char *reason = reasons[dice(5)];
    envoy_dynamic_module_on_http_filter_local_reply(s, s->inside, 503, (envoy_text){reason, strlen(reason)},
                                                    dice(8) == 0);
    if (!s->replied)
        response_headers(s, false);
}

typedef enum { HEADERS, BODY, BODY_END, TRAILERS, ANSWER, ANSWER_BODY, ANSWER_END, ANSWER_TRAILERS, LOCAL, COMPLETE,
               ANSWERED, EVENTS } event;

static void happen(stream *s, event event)
{
    switch (event) {
    case HEADERS:
        return request_headers(s, dice(4) == 0);
    case BODY:
        return request_body(s, false);
    case BODY_END:
        return request_body(s, true);
    case TRAILERS:
        s->held |= envoy_dynamic_module_on_http_filter_request_trailers(s, s->inside) == ENVOY_STOP;
        return;
    case ANSWER:
        return response_headers(s, dice(4) == 0);
    case ANSWER_BODY:
        return response_body(s, false);
    case ANSWER_END:
        return response_body(s, true);
    case ANSWER_TRAILERS:
        (void)envoy_dynamic_module_on_http_filter_response_trailers(s, s->inside);
        return;
    case LOCAL:
        return local_reply(s);
    case ANSWERED:
        return answered(s);
    default:
        envoy_dynamic_module_on_http_filter_stream_complete(s, s->inside);
    }
}

/* Events go to whatever stream the request is in by now; each stream is destroyed once. */
static void play(const event *events, size_t count)
{
    stream *first = begin(), *s = first;
    streams_begun++;
    late_destroy = (int)dice(2);
    for (size_t i = 0; i < count; i++) {
        happen(s, events[i]);
        while (s->again)
            s = s->again;
    }
    if (dice(4))
        envoy_dynamic_module_on_http_filter_stream_complete(s, s->inside);
    destroy(s);
    while (first) {
        stream *next = first->again;
        drop(first);
        first = next;
    }
}

static void play_all(event *events, size_t depth)
{
    play(events, depth);
    if (depth == LENGTH)
        return;
    for (int i = 0; i < EVENTS; i++) {
        events[depth] = (event)i;
        play_all(events, depth + 1);
    }
}

/* Mostly the way that requests go, with a detour. */
static void play_at_random(void)
{
    static const event usual[] = {HEADERS, BODY_END, ANSWER, ANSWER_BODY, ANSWER_END, COMPLETE};
    event events[24];
    size_t count = 0, stop = 1 + dice(6);
    for (size_t i = 0; i < stop; i++) {
        if (dice(4) == 0)
            events[count++] = (event)dice(EVENTS);
        events[count++] = usual[i];
        if (usual[i] == BODY_END && dice(2))
            events[count++] = ANSWERED;
        if (usual[i] == BODY_END && dice(3) == 0)
            events[count++] = LOCAL;
    }
    play(events, count);
}

/* By route: no strategy is set, and the route of the model may have a problem. */
static void publish(brix_writer *writer, uint32_t pods, int by_route)
{
    static const uint32_t masks[] = {0, BRIX_USERS_KNOWN, BRIX_USERS_KNOWN | BRIX_USERS_SHARED,
                                     BRIX_USERS_KNOWN | BRIX_USERS_SHARED | BRIX_USERS_CLOSED};
    brix_settings settings = {.default_strategy = BRIX_LITERAL("least-request"), .users = masks[dice(4)],
                              .pod_in_flight = dice(3)};
    uint32_t index;
    if (by_route)
        settings.default_strategy = BRIX_NOTHING;
    must(brix_writer_begin(writer) == BRIX_OK && brix_writer_settings(writer, &settings) == BRIX_OK, "a topology begins");
    for (uint32_t i = 0; i < pods; i++) {
        char key = (char)('a' + i);
        brix_pod pod = {.key = {&key, 1}, .name = {&key, 1}, .address = BRIX_LITERAL("10.0.0.1:8000"), .ready = 1};
        must(brix_writer_pod(writer, &pod, &index) == BRIX_OK, "a pod fits");
    }
    must(brix_writer_model(writer, "m", 1) == BRIX_OK, "a model fits");
    if (by_route)
        must(brix_writer_problems(writer, &(brix_text){"not accepted", 12 * dice(2)}, 1) == BRIX_OK, "its problem fits");
    for (uint32_t i = 0; i < pods; i++)
        brix_writer_member(writer, i);
    if (dice(2))
        must(brix_writer_model(writer, "absent", 6) == BRIX_OK &&
                 brix_writer_claim(writer, (brix_claim)(1 + dice(3))) == BRIX_OK,
             "a claimed model fits");
    must(brix_writer_publish(writer) == BRIX_OK, "the topology is published");
}

static void check(brix_writer *writer)
{
    brix_totals totals;
    brix_model_totals model;
    brix_pod_totals pod;
    uint64_t endings = 0;
    brix_writer_totals(writer, &totals);
    for (uint32_t i = 0; brix_writer_model_totals(writer, i, &model) == BRIX_OK; i++) {
        for (uint32_t line = 0; line < BRIX_ENDINGS; line++)
            endings += model.endings[line];
        must(model.in_flight == 0, "no model has requests in flight");
    }
    for (uint32_t i = 0; brix_writer_pod_totals(writer, i, &pod) == BRIX_OK; i++)
        must(pod.running == 0, "no pod has requests");
    must(totals.requests == streams_begun && endings == streams_begun, "every request finished once");
    must(totals.in_flight == 0 && totals.anomalies == 0, "nothing is in flight, nothing was miscounted");
}

/* All bytes, and "ab". */
static void provide_vocabulary(const char *path)
{
    static uint8_t classes[0x110000];
    char bytes[258];
    uint32_t offsets[258];
    for (uint32_t i = 0; i < 256; i++) {
        bytes[i] = (char)i;
        offsets[i] = i;
    }
    memcpy(bytes + 256, "ab", 2);
    offsets[256] = 256;
    offsets[257] = 258;
    classes['a'] = classes['b'] = 1;
    classes[' '] = 3;
    must(brix_vocabulary_write(path, bytes, offsets, 257, classes) == BRIX_OK, "a vocabulary is written");
}

int main(int count, char **arguments)
{
    brix_limits limits = {4, 8, 16, 4096, 2};
    brix_writer *writer;
    brix_origin origin;
    char text[512];
    event events[LENGTH];
    if (count != 4)
        return 2;
    must(strcmp(envoy_dynamic_module_on_program_init(), ENVOY_ABI_VERSION) == 0, "the version is told");
    must(!envoy_dynamic_module_on_http_filter_config_new(NULL, (envoy_text){"", 0}, (envoy_text){"x y", 3}),
         "a configuration that is none is refused");
    snprintf(text, sizeof text, "4 4096 %s", arguments[1]);
    state = strtoull(arguments[3], NULL, 10);
    made = envoy_dynamic_module_on_http_filter_config_new(NULL, (envoy_text){"", 0}, (envoy_text){text, strlen(text)});
    must(made != NULL, "a missing segment is no failure");
    event early[] = {HEADERS, BODY_END, ANSWER, COMPLETE};
    play(early, 4);
    provide_vocabulary(arguments[1]);
    must(brix_writer_open(arguments[1], &limits, &writer, &origin) == BRIX_OK, "the writer opens");
    publish(writer, 2, 0);
    nanosleep(&(struct timespec){0, 150000000}, NULL);
    streams_begun = 0;
    play_all(events, 0);
    check(writer);
    for (time_t end = time(NULL) + atol(arguments[2]); time(NULL) < end;) {
        for (int i = 0; i < 1000; i++)
            play_at_random();
        publish(writer, 1 + dice(4), dice(4) == 0);
    }
    check(writer);
    envoy_dynamic_module_on_http_filter_config_destroy(made);
    brix_writer_close(writer);
    printf("%llu requests, every one finished once\n", (unsigned long long)streams_begun);
    return 0;
}
