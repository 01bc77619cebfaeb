// Sends rankings and fetches content when it is asked for. Texts are only ever set as text, never as markup.
"use strict";

function enterByLink() {
  // The token stands behind "#", which browsers never send to a server or write into a referrer.
  const form = document.getElementById("enter");
  const token = decodeURIComponent(location.hash.slice(1));
  if (!form || !/^[\w-]{8,100}$/.test(token)) return;
  history.replaceState(null, "", location.pathname);
  form.elements.token.value = token;
  form.submit();
}

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function rankingPage(form) {
  const place = form.dataset.place;
  const sections = [...form.querySelectorAll(".response")];
  const letters = sections.map((section) => section.dataset.letter);
  const chips = Object.fromEntries([...form.querySelectorAll(".chip")].map((chip) => [chip.dataset.letter, chip]));
  const slots = Object.fromEntries([...form.querySelectorAll(".slot")].map((slot) => [slot.dataset.rank, slot]));
  const [show, hide, save, skip, state] = ["show", "hide", "save", "skip", "state"].map((id) => document.getElementById(id));
  let opened = form.dataset.ranked === "yes";
  let busy = false;

  function say(words, mood) {
    state.textContent = words;
    state.className = `notice ${mood || ""}`;
  }

  function ranks() {
    return Object.fromEntries(letters.map((letter) => {
      const chosen = form.querySelector(`input[name="rank-${letter}"]:checked`);
      return [letter, chosen ? Number(chosen.value) : null];
    }));
  }

  function problem() {
    const given = ranks();
    const missing = letters.filter((letter) => given[letter] === null);
    if (missing.length) return `Not ranked yet: ${missing.join(", ")}.`;
    if (form.dataset.ties === "yes") return "";
    for (let rank = 1; rank <= letters.length; rank += 1) {
      const tied = letters.filter((letter) => given[letter] === rank);
      if (tied.length > 1) return `${tied.join(" and ")} share rank ${rank}. Say which is more harmful.`;
    }
    return "";
  }

  function update() {
    const given = ranks();
    for (const letter of letters) slots[given[letter] === null ? "" : given[letter]].append(chips[letter]);
    form.dataset.open = opened ? "yes" : "no";
    for (const fieldset of form.querySelectorAll("fieldset")) fieldset.disabled = !opened || busy;
    const wrong = problem();
    save.disabled = !opened || busy || wrong !== "";
    if (!busy) say(opened ? wrong || "Ready to save." : "", wrong ? "" : "good");
  }

  function choose(letter) {
    for (const section of sections) section.classList.toggle("chosen", section.dataset.letter === letter);
    const section = document.getElementById(`response-${letter}`);
    section.scrollIntoView({ block: "nearest" });
    section.focus({ preventScroll: true });
  }

  function setRank(letter, rank) {
    const input = form.querySelector(`input[name="rank-${letter}"][value="${rank}"]`);
    if (!opened || busy || !input) return;
    input.checked = true;
    update();
  }

  async function reveal() {
    try {
      const answer = await fetch(`/item/${place}/content`);
      if (!answer.ok) throw new Error();
      const content = await answer.json();
      document.getElementById("prompt").textContent = content.prompt;
      sections.forEach((section, i) => { section.querySelector(".content").textContent = content.responses[i]; });
    } catch {
      say("The content did not come. Check that the server runs, then try again.", "bad");
      return;
    }
    covered(false);
    opened = true;
    update();
    choose(letters.find((letter) => ranks()[letter] === null) || letters[0]);
  }

  function covered(isCovered) {
    for (const text of form.querySelectorAll(".content")) {
      text.hidden = isCovered;
      if (isCovered) text.textContent = "";
    }
    for (const cover of form.querySelectorAll(".cover")) cover.hidden = !isCovered;
    show.hidden = !isCovered;
    hide.hidden = isCovered;
    document.getElementById("covered").hidden = !isCovered;
  }

  async function send(path, body, saved) {
    // One key for all attempts: a ranking that arrived although its answer was lost is not kept twice.
    busy = true;
    update();
    for (let attempt = 0; ; attempt += 1) {
      say(attempt ? "Not saved yet: the server does not answer. Trying again; keep this page open." : "Saving ...", attempt ? "bad" : "");
      try {
        const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
        if (answer.ok) {
          const told = await answer.json();
          say(saved, "good");
          busy = false;
          location.assign(told.next === null ? "/" : `/item/${told.next}`);
          return;
        }
        if (answer.status < 500) {
          const told = await answer.json().catch(() => ({}));
          busy = false;
          update();
          say(`Not saved: ${told.error || "the server refused it"}.`, "bad");
          return;
        }
      } catch {
        // No connection: try again below.
      }
      await new Promise((done) => setTimeout(done, Math.min(500 * 2 ** attempt, 5000)));
    }
  }

  function submit() {
    if (busy || !opened) return;
    const wrong = problem();
    if (wrong) return say(wrong, "bad");
    send(`/item/${place}/ranking`, { key: newKey(), ranks: ranks() }, "Saved.");
  }

  form.addEventListener("submit", (event) => { event.preventDefault(); submit(); });
  form.addEventListener("change", update);
  show.addEventListener("click", reveal);
  hide.addEventListener("click", () => covered(true));
  skip.addEventListener("click", () => { if (!busy) send(`/item/${place}/skip`, {}, "Skipped."); });
  form.addEventListener("focusin", (event) => {
    const section = event.target.closest(".response");
    if (section) for (const each of sections) each.classList.toggle("chosen", each === section);
  });

  for (const chip of Object.values(chips)) {
    chip.addEventListener("dragstart", (event) => {
      if (!opened || busy) return event.preventDefault();
      event.dataTransfer.setData("text/plain", chip.dataset.letter);
      event.dataTransfer.effectAllowed = "move";
    });
  }
  for (const slot of Object.values(slots)) {
    slot.addEventListener("dragover", (event) => { event.preventDefault(); slot.classList.add("over"); });
    slot.addEventListener("dragleave", () => slot.classList.remove("over"));
    slot.addEventListener("drop", (event) => {
      event.preventDefault();
      slot.classList.remove("over");
      const letter = event.dataTransfer.getData("text/plain");
      if (!letters.includes(letter) || !opened || busy) return;
      if (slot.dataset.rank !== "") return setRank(letter, slot.dataset.rank);
      for (const input of form.querySelectorAll(`input[name="rank-${letter}"]`)) input.checked = false;
      update();
    });
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toUpperCase();
    if (event.key === "Escape") covered(true);
    else if (key === "S" && !show.hidden) reveal();
    else if (key === "X") skip.click();
    else if (letters.includes(key)) choose(key);
    else if (/^[0-9]$/.test(key) && Number(key) <= letters.length) {
      const chosen = form.querySelector(".response.chosen");
      if (!chosen) return;
      setRank(chosen.dataset.letter, key);
      const open = letters.find((letter) => ranks()[letter] === null);
      if (open) choose(open);
    } else if (event.key === "Enter" && !event.target.closest("button, a")) submit();
    else return;
    event.preventDefault();
  });

  window.addEventListener("beforeunload", (event) => { if (busy) event.preventDefault(); });
  update();
}

enterByLink();
const ranking = document.getElementById("ranking");
if (ranking) rankingPage(ranking);
