// Draws what the page's JSON block holds, with Plotly. Colours are the stylesheet's; texts are set as text.
"use strict";
(() => {
  if (typeof Plotly === "undefined") return;
  const QUIET = { displayModeBar: false, responsive: true };
  const dark = matchMedia("screen and (prefers-color-scheme: dark)"); // paper is light
  let drawn = "";

  const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  /** Plotly reads a little HTML in texts: what could begin a tag or an entity is shown as itself. */
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const short = (text) => plain(text.length > 26 ? `${text.slice(0, 25)}…` : text);

  function look() {
    return {
      margin: { l: 52, r: 8, t: 12, b: 30 },
      height: 236,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: token("--sans"), size: 12, color: token("--muted") },
      showlegend: false,
      hovermode: "x unified",
      hoverlabel: { bgcolor: token("--panel"), bordercolor: token("--line"), font: { color: token("--text"), size: 12 } },
      xaxis: { showgrid: false, zeroline: false, fixedrange: true, linecolor: token("--line"), tickcolor: token("--line") },
      yaxis: { gridcolor: token("--line"), zeroline: false, fixedrange: true, nticks: 5, rangemode: "tozero" },
    };
  }

  const STEP = { hour: 3600e3, day: 86400e3, week: 604800e3 };

  function stack(id, data, field, layout, format) {
    const traces = data.series.map((each) => ({
      type: "bar",
      name: short(each.name),
      x: data.periods,
      y: each[field],
      width: STEP[data.unit] && STEP[data.unit] * 0.78,
      marker: { color: token(each.colour ? `--c${each.colour}` : "--c0") },
      hovertemplate: `%{fullData.name}  ${format}<extra></extra>`,
    }));
    Plotly.react(id, traces, layout, QUIET);
  }

  function course(data) {
    const cost = look();
    cost.barmode = "stack";
    cost.bargap = 0.22;
    const step = STEP[data.unit];
    if (step) {
      const first = Date.parse(`${data.periods[0].slice(0, 16)}Z`);
      cost.xaxis.range = [first - step / 2, first + (data.room - 0.5) * step];
      if (data.room * 56 <= document.getElementById("chart-tokens").clientWidth - 60) cost.xaxis.dtick = step;
    }
    cost.xaxis.type = data.unit === "month" ? "category" : "date";
    if (data.unit === "hour") cost.xaxis.tickformat = "%H:%M";
    if (data.unit === "day") cost.xaxis.tickformat = "%-d %b";
    if (data.unit === "week") cost.xaxis.tickformat = "%-d %b";
    cost.xaxis.tickangle = 0;
    cost.xaxis.nticks = document.getElementById("chart-tokens").clientWidth < 420 ? 5 : 9;
    const counted = structuredClone(cost);
    const symbol = { USD: "$", EUR: "€", GBP: "£" }[data.currency];
    cost.yaxis.tickprefix = symbol || "";
    cost.yaxis.tickformat = ",~r";
    if (data.currency && !symbol) cost.yaxis.ticksuffix = ` ${plain(data.currency)}`;
    const most = Math.max(...data.periods.map((_, at) => data.series.reduce((sum, each) => sum + each.tokens[at], 0)));
    counted.yaxis.tickformat = most < 1000 ? ",d" : "~s";
    if (most < 5) counted.yaxis.dtick = 1;
    if (data.currency) stack("chart-cost", data, "cost", cost, `${symbol || ""}%{y:,.4~r}`);
    stack("chart-tokens", data, "tokens", counted, "%{y:,.0f}");
  }

  const duration = (seconds) => (seconds < 1 ? `${Math.round(seconds * 1e6) / 1e3} ms` : `${seconds} s`);

  /** Round values over the range of the boxes, as many as there is room for; `timed` ones with their unit. */
  function steps(spreads, timed, room) {
    const ends = spreads.flatMap((each) => [each.at[0], each.at[4]]).filter((value) => value > 0);
    let low = Math.min(...ends) / 1.5;
    let high = Math.max(...ends) * 1.5;
    const powers = Array.from({ length: 12 }, (_, number) => number - 4);
    const within = (digits) => powers.flatMap((power) => digits.map((digit) => Number(`${digit}e${power}`))).filter((value) => value >= low && value <= high);
    while (ends.length && within([1, 2, 5]).length < 2) [low, high] = [low / 1.5, high * 1.5];
    const tickvals = [[1, 2, 5], [1, 3], [1]].map(within).find((values) => values.length <= room) || within([1]).filter((_, at) => at % 2 === 0);
    const ticktext = tickvals.map((value) => (timed ? duration(value) : value.toLocaleString("en")));
    return { tickvals, ticktext, tickangle: 0, range: [Math.log10(low), Math.log10(high)] };
  }

  function boxes(id, spreads, timed) {
    const layout = look();
    const names = spreads.map((each) => short(each.name));
    const room = Math.floor((document.getElementById(id).clientWidth - 170) / 44);
    layout.height = 44 + 26 * Math.max(spreads.length, 2);
    layout.margin.l = 60;
    layout.hovermode = "closest";
    layout.xaxis = { ...layout.xaxis, type: "log", showgrid: true, gridcolor: token("--line"), ...steps(spreads, timed, room) };
    layout.yaxis = { ...layout.yaxis, showgrid: false, autorange: "reversed", type: "category", automargin: true, dtick: 1 };
    const at = (number) => spreads.map((each) => each.at[number]);
    Plotly.react(id, [{
      type: "box", orientation: "h", y: names, whiskerwidth: 0.4, line: { width: 1.4, color: token("--accent") },
      fillcolor: token("--wash"), lowerfence: at(0), q1: at(1), median: at(2), q3: at(3), upperfence: at(4),
      hoverinfo: "x", showlegend: false,
    }], layout, QUIET);
  }

  function draw() {
    const block = document.getElementById("charts");
    if (!block || block.textContent + dark.matches === drawn) return;
    drawn = block.textContent + dark.matches;
    const data = JSON.parse(block.textContent);
    if (data.series && document.getElementById("chart-tokens")) course(data);
    if (document.getElementById("chart-seconds")) {
      boxes("chart-seconds", data.seconds, true);
      boxes("chart-rates", data.rates, false);
    }
  }

  document.addEventListener("usage:fresh", draw);
  dark.addEventListener("change", draw);
  draw();
})();
