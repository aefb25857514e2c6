// What the child is asked, and what it answers. It ends with whoever waits for the answer.

const { exit, stdin, stdout } = Deno;

/** The job: one line. What follows is the end of the pipe: nobody is there any more. */
export const job = new Promise((resolve) => {
  void (async () => {
    const decoder = new TextDecoder();
    let text = "";
    for await (const chunk of stdin.readable) {
      text += decoder.decode(chunk, { stream: true });
      if (text.endsWith("\n")) resolve(JSON.parse(text));
    }
    exit(1);
  })();
});

/** Answers with the sheets that `make` makes, or with why there are none. */
export async function answer(make) {
  try {
    end({ css: await make() });
  } catch (error) {
    end({ error: { name: String(error?.name), message: String(error?.message ?? error) } });
  }
}

function end(outcome) {
  const bytes = new TextEncoder().encode(`\n${JSON.stringify(outcome)}\n`);
  for (let done = 0; done < bytes.length; ) done += stdout.writeSync(bytes.subarray(done));
  exit(0);
}
