/* Search: pages for users before those about the project and before the glossary, estimators before their models
   without PyTorch. The words that find a page first are its index entries. */
const PROJECT = /^(architecture|benchmarks|changelog|contributing|defaults|performance|reliability|results|roadmap|_modules\/.*)$/;

var Scorer = {
  score: ([page, title, anchor, description, score]) =>
    PROJECT.test(page) ? score - 20 : score - /^(glossary|generated\/sklearn_vae\.runtime\..*)$/.test(page),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
