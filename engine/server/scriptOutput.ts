export interface ForwardedOutput {
  readonly add: (text: string) => void;
  /** Forwards what is left. */
  readonly end: () => void;
}

/** A script may print megabytes: the beginning goes on as it comes, of the rest only the end, where a traceback stands. */
const shownCharacters = 512 * 1024;
const keptCharacters = 64 * 1024;

/** Few messages instead of one for each line: a tenth of a second is still live to a reader. */
const intervalMs = 100;

export function forwardOutput(send: (text: string) => void): ForwardedOutput {
  let waiting = "";
  let room = shownCharacters;
  let kept = "";
  let beyond = 0;
  let timer: NodeJS.Timeout | undefined;
  const flush = (): void => {
    clearTimeout(timer);
    timer = undefined;
    if (waiting !== "") send(waiting);
    waiting = "";
  };
  return {
    add: (text) => {
      const now = text.slice(0, room);
      const later = text.slice(now.length);
      room -= now.length;
      waiting += now;
      kept = (kept + later).slice(-keptCharacters);
      beyond += later.length;
      if (waiting !== "") timer ??= setTimeout(flush, intervalMs);
    },
    end: () => {
      const left = beyond - kept.length;
      if (left > 0) waiting += `\n[${left} characters of output are not shown]\n`;
      waiting += kept;
      flush();
    },
  };
}
