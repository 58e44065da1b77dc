/* bench: runs models through Quire's C ABI and measures what a client of the library sees. */
#include "common.h"

#include "commands.h"
#include "interrupt.h"

typedef struct command {
    const char *name;
    int (*execute)(int argc, char **argv);
    const char *summary;
} command;

static const command commands[] = {
    {"generate", command_generate, "stream the answer to one prompt"},
    {"batch", command_batch, "the same prompts one at a time and many at once"},
    {"prefix", command_prefix, "which requests find their prefix in the cache, and what that saves"},
    {"paged", command_paged, "20 requests with one system prompt, without and with sharing its pages"},
    {"memory", command_memory, "how much sharing saves in three workloads; needs no model"},
    {"detok", command_detok, "tokens to text as they come, against decoding all anew; needs no generation"},
    {"latency", command_latency, "what streams feel when a long prompt arrives"},
};

static int print_overview(void) {
    printf("bench: run language models with Quire %s and measure them\n\n", quire_version());
    fputs("usage: bench [options]               measure prompts one after another\n"
          "       bench COMMAND [options]\n\n"
          "commands:\n",
          stdout);
    for (size_t i = 0; i < LENGTH_OF(commands); i++) {
        printf("  %-10s %s\n", commands[i].name, commands[i].summary);
    }
    fputs("\n"
          "examples:\n"
          "  bench generate --model ./SmolLM2-135M-Instruct --prompt \"Once upon a time\"\n"
          "  bench --model model.gguf --prompts 5 --max-tokens 256 --output results.json\n"
          "  bench batch --model model.gguf --concurrency 1,2,4,8,16 --ignore-eos\n"
          "\n"
          "'bench COMMAND --help' explains a command, 'bench --model MODEL --help' this benchmark.\n"
          "\n"
          "what is measured, with the client's clock:\n"
          "  TTFT        time to first token: from submit to the first piece of the answer\n"
          "  TPOT        time per output token after the first\n"
          "  generation  output tokens per second after the first, 1 / TPOT\n"
          "  processing  prompt tokens per second, prompt / TTFT\n"
          "  latency     from submit to the end of the answer\n"
          "\n"
          "Results go to standard output, progress and errors to standard error. Exit codes: 0 all is\n"
          "well; 1 something failed, or a result was not as expected; 2 the command line is wrong; 130\n"
          "interrupted with Ctrl-C.\n",
          stdout);
    return EXIT_OK;
}

int main(int argc, char **argv) {
    interrupt_install();
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_overview();
        return argc < 2 ? EXIT_USAGE : EXIT_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("bench, with Quire %s, ABI version %u\n", quire_version(), (unsigned)quire_abi_version());
        return EXIT_OK;
    }
    for (size_t i = 0; i < LENGTH_OF(commands); i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].execute(argc - 2, argv + 2);
        }
    }
    if (argv[1][0] != '-') {
        fprintf(stderr, "bench: there is no command '%s'\nTry 'bench --help'.\n", argv[1]);
        return EXIT_USAGE;
    }
    return command_single(argc - 1, argv + 1);
}
