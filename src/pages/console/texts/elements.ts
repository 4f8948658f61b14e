/** Texts of the elements that several views share. */
import { defineTexts } from '../../language.ts';

export const elementTexts = defineTexts(
  {
    optional: 'optional',
    copy: 'Copy',
    copied: 'Copied',
    notCopied: 'Could not copy',
    scrollable: (label: string) => `${label}, scrollable`,
    search: 'Search',
    close: 'Close',
    cancel: 'Cancel',
    payload: 'Payload as JSON',
    copyPayload: 'Copy payload',
    firstPart: (size: string) => `These are the first ${size}.`,
    showAll: 'Show all',
    kind: 'Kind',
    id: 'Id',
  },
  {
    optional: 'opcional',
    copy: 'Copiar',
    copied: 'Copiado',
    notCopied: 'Não foi possível copiar',
    scrollable: (label) => `${label}, com rolagem`,
    search: 'Buscar',
    close: 'Fechar',
    cancel: 'Cancelar',
    payload: 'Payload em JSON',
    copyPayload: 'Copiar payload',
    firstPart: (size) => `Estes são os primeiros ${size}.`,
    showAll: 'Mostrar tudo',
    kind: 'Tipo',
    id: 'Id',
  },
);
