/** Texts of the token panel. */
import { defineTexts } from '../../language.ts';

export const tokenTexts = defineTexts(
  {
    title: 'Token',
    another: 'Another token',
    needed:
      'This server needs a token. The page keeps it in this tab until you close the tab, and sends it in a header only.',
    use: 'Use token',
    forget: 'Forget token',
    unreadable: 'A token is in use, but this page cannot read its claims.',
    closed: 'This server does not show its connections, its log and its figures',
    refused: 'Refused',
    tenants: 'Tenants',
    scopes: 'Scopes',
    all: 'all',
    none: 'none',
    more: (count: number) => `and ${count} more`,
    expires: 'Expires',
    never: 'never',
    expired: 'has expired',
    in: (time: string) => `in ${time}`,
    without: (scope: string) => `Without ${scope}:`,
    lacks: {
      admin: 'no Find, Log and Overview.',
      subscribe: 'no Live and no Compare.',
      publish: 'no Publish, and no test events in Compare.',
    },
    allTenants: 'A token for all tenants cannot listen: no Live and no Compare.',
  },
  {
    title: 'Token',
    another: 'Outro token',
    needed:
      'Este servidor exige um token. A página guarda o token nesta aba até você fechá-la, e só o envia em um cabeçalho.',
    use: 'Usar token',
    forget: 'Esquecer token',
    unreadable: 'Há um token em uso, mas esta página não consegue ler as claims dele.',
    closed: 'Este servidor não mostra as conexões, o log e os números dele',
    refused: 'Recusado',
    tenants: 'Tenants',
    scopes: 'Escopos',
    all: 'todos',
    none: 'nenhum',
    more: (count) => `e mais ${count}`,
    expires: 'Expira',
    never: 'nunca',
    expired: 'já expirou',
    in: (time) => `em ${time}`,
    without: (scope) => `Sem ${scope}:`,
    lacks: {
      admin: 'sem Buscar, Registro e Visão geral.',
      subscribe: 'sem Ao vivo e sem Comparar.',
      publish: 'sem Publicar, e sem eventos de teste em Comparar.',
    },
    allTenants: 'Um token para todos os tenants não pode ouvir: sem Ao vivo e sem Comparar.',
  },
);
