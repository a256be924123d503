"use strict";
// The report's few movements: theme, unfolding rows, search and filter of records, copying. Without it all is readable.
(function () {
  var all = function (query, within) { return Array.prototype.slice.call((within || document).querySelectorAll(query)); };

  // theme: as the system has it, light, dark
  var themes = ["system", "light", "dark"], button = document.querySelector(".theme");
  button.hidden = false;
  button.addEventListener("click", function () {
    var now = document.documentElement.dataset.theme || "system";
    var next = themes[(themes.indexOf(now) + 1) % 3];
    if (next === "system") { delete document.documentElement.dataset.theme; } else { document.documentElement.dataset.theme = next; }
    button.textContent = "Theme: " + next;
  });

  // explanations under the rows of tables
  all(".unfold").forEach(function (button) {
    var detail = button.closest("tr").nextElementSibling;
    var set = function (open) { detail.hidden = !open; button.setAttribute("aria-expanded", String(open)); };
    set(false);
    button.addEventListener("click", function () { set(detail.hidden); });
  });

  // records: search, filter, and a few at a time
  var marks = window.CSS && CSS.highlights && window.Highlight ? new Highlight() : null;
  if (marks) { CSS.highlights.set("found", marks); }
  var mark = function (card, words) {
    var walker = document.createTreeWalker(card.querySelector(".text"), NodeFilter.SHOW_TEXT), node;
    while ((node = walker.nextNode())) {
      var text = node.data.toLowerCase();
      if (text.length !== node.data.length) { continue; }  // lower-casing moved the letters: better no mark than a wrong one
      words.forEach(function (word) {
        for (var at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + word.length)) {
          var range = document.createRange();
          range.setStart(node, at); range.setEnd(node, at + word.length);
          marks.add(range);
        }
      });
    }
  };
  var fold = function (card) {
    var text = card.querySelector(".text");
    if (card.dataset.measured || !text.getClientRects().length) { return; }
    card.dataset.measured = "yes";
    text.classList.add("folded");
    if (text.scrollHeight <= text.clientHeight + 4) { text.classList.remove("folded"); return; }
    var more = document.createElement("button");
    more.type = "button"; more.className = "whole"; more.textContent = "Whole text";
    more.addEventListener("click", function () {
      more.textContent = text.classList.toggle("folded") ? "Whole text" : "Less";
    });
    text.after(more);
  };
  all(".examples").forEach(function (box) {
    var step = Number(box.dataset.page), shown = step, cards = all(".card", box);
    var input = box.querySelector("input"), selects = all("select", box), sides = all(".sides button", box);
    var more = box.querySelector(".more"), none = box.querySelector(".nothing"), count = box.querySelector("output");
    var texts = cards.map(function (card) { return card.textContent.toLowerCase(); });
    var apply = function () {
      var words = input.value.toLowerCase().split(/\s+/).filter(Boolean), matched = 0, per = {}, left = 0;
      var on = sides.filter(function (side) { return side.getAttribute("aria-pressed") === "true"; })
        .map(function (side) { return side.dataset.group; });
      cards.forEach(function (card, place) {
        var fits = (!sides.length || on.indexOf(card.dataset.group) >= 0) &&
          selects.every(function (select) { return !select.value || card.dataset[select.dataset.by] === select.value; }) &&
          words.every(function (word) { return texts[place].indexOf(word) >= 0; });
        var group = card.dataset.group;
        per[group] = (per[group] || 0) + (fits ? 1 : 0);
        matched += fits ? 1 : 0;
        card.hidden = !fits || per[group] > shown;
        left += fits && card.hidden ? 1 : 0;
        if (!card.hidden) { fold(card); }
        card.dataset.words = fits && !card.hidden ? words.join(" ") : "";
      });
      box.querySelector(".cards").classList.toggle("one-side", on.length === 1);
      if (marks) {
        marks.clear();
        all(".card:not([hidden])").forEach(function (card) { if (card.dataset.words) { mark(card, card.dataset.words.split(" ")); } });
      }
      none.hidden = matched > 0;
      more.hidden = left === 0;
      more.textContent = "Show more (" + left.toLocaleString("en") + " left)";
      count.textContent = matched === cards.length ? "" : matched.toLocaleString("en") + " of " + cards.length.toLocaleString("en") + " match";
    };
    var again = function () { shown = step; apply(); };
    input.addEventListener("input", again);
    selects.forEach(function (select) { select.addEventListener("change", again); });
    sides.forEach(function (side) {
      side.addEventListener("click", function () {
        side.setAttribute("aria-pressed", String(side.getAttribute("aria-pressed") !== "true"));
        again();
      });
    });
    more.addEventListener("click", function () { shown += step * 2; apply(); });
    box.querySelector(".tools").hidden = cards.length < 5;
    apply();
  });

  // copying: the clipboard needs a trusted page, so an old way stands ready
  all(".copy").forEach(function (button) {
    button.hidden = false;
    button.addEventListener("click", function () {
      var text = all(".line", button.parentNode).map(function (line) { return line.textContent; }).join("\n");
      var say = function (done) {
        button.textContent = done ? "Copied" : "Press Ctrl-C";
        setTimeout(function () { button.textContent = "Copy"; }, 2000);
      };
      var old = function () {
        var selection = window.getSelection(), range = document.createRange();
        range.selectNodeContents(button.parentNode.querySelector("code"));
        selection.removeAllRanges(); selection.addRange(range);
        say(document.execCommand("copy"));
      };
      if (navigator.clipboard) { navigator.clipboard.writeText(text).then(function () { say(true); }, old); } else { old(); }
    });
  });

  // contents: where the reader is
  if (window.IntersectionObserver) {
    var links = {}, visible = {};
    all("nav a").forEach(function (link) { links[link.getAttribute("href").slice(1)] = link; });
    var watcher = new IntersectionObserver(function (entries) {
      entries.forEach(function (entry) { visible[entry.target.id] = entry.isIntersecting; });
      var current = all("main > section").filter(function (section) { return visible[section.id]; })[0];
      if (!current) { return; }
      Object.keys(links).forEach(function (id) {
        if (id === current.id) { links[id].setAttribute("aria-current", "true"); } else { links[id].removeAttribute("aria-current"); }
      });
    }, { rootMargin: "-10% 0px -60% 0px" });
    all("main > section").forEach(function (section) { watcher.observe(section); });
  }
})();
