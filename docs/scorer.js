/* Search: pages for users before those about the project, estimators before their models without PyTorch. */
const PROJECT = /^(architecture|benchmarks|changelog|contributing|defaults|performance|reliability|results|roadmap|_modules\/.*)$/;

var Scorer = {
  score: ([page, title, anchor, description, score]) =>
    PROJECT.test(page) ? score - 20 : score - page.startsWith("generated/sklearn_vae.runtime."),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
