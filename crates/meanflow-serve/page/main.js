// The two halves of the page, its theme and its keys.

import { get } from "/server.js";
import { Studio } from "/studio.js";
import { Dashboard } from "/dashboard.js";

const problem = document.getElementById("problem");

export function complain(error) {
  problem.textContent = error.message ?? String(error);
  problem.hidden = false;
}

export function content() {
  problem.hidden = true;
}

const THEMES = ["system", "light", "dark"];
const dark = matchMedia("(prefers-color-scheme: dark)");

function applyTheme() {
  const chosen = localStorage.getItem("meanflow-theme") ?? "system";
  const isDark = chosen === "dark" || (chosen === "system" && dark.matches);
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
  document.getElementById("theme").textContent = `Theme: ${chosen}`;
}

function nextTheme() {
  const chosen = localStorage.getItem("meanflow-theme") ?? "system";
  localStorage.setItem("meanflow-theme", THEMES[(THEMES.indexOf(chosen) + 1) % THEMES.length]);
  applyTheme();
}

let studio, dashboard;

function showHalf() {
  const wantsRuns = location.hash.startsWith("#runs") || (!studio && location.hash === "");
  const isRuns = (wantsRuns && dashboard) || !studio;
  document.getElementById("studio").hidden = isRuns;
  document.getElementById("runs").hidden = !isRuns;
  document.getElementById("tab-studio").toggleAttribute("aria-current", !isRuns);
  document.getElementById("tab-runs").toggleAttribute("aria-current", isRuns);
  document.title = isRuns ? "meanflow · runs" : "meanflow · studio";
  if (isRuns) dashboard?.start();
  else dashboard?.stop();
  if (!isRuns) studio.start();
}

function onKey(event) {
  const target = event.target;
  const isTyping = target.matches?.("input[type=number], input[type=password], select, textarea");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const key = event.key.toLowerCase();
  if (key === "t") nextTheme();
  else if (key === "g") location.hash = document.getElementById("runs").hidden ? "#runs" : "#studio";
  else if (key === "?") document.getElementById("keys-dialog").showModal();
  else if (!document.getElementById("studio").hidden && studio?.key(key, target)) event.preventDefault();
}

async function start() {
  applyTheme();
  dark.addEventListener("change", applyTheme);
  document.getElementById("theme").addEventListener("click", nextTheme);
  document.getElementById("keys").addEventListener("click", () => document.getElementById("keys-dialog").showModal());
  const catalogue = await get("/api/catalogue");
  if (catalogue.models.length) studio = new Studio(catalogue);
  if (catalogue.runs.length) dashboard = new Dashboard(catalogue);
  document.getElementById("tab-studio").hidden = !studio;
  document.getElementById("tab-runs").hidden = !dashboard;
  addEventListener("hashchange", showHalf);
  addEventListener("keydown", onKey);
  showHalf();
}

start().catch(complain);
